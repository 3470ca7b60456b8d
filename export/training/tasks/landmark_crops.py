"""Training and validation crops for the landmark network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ....bench.data.landmark_labels import MIRRORED, UNDER_A_MASK, LandmarkTable
from ....runtime.values import POINTS, FloatArray, Image
from ....runtime.vision.crop import Crop, cut_crop
from ....runtime.vision.geometry import (
    crop_matrix,
    intersection_over_union,
    landmark_bounds,
    longer_side,
    transform_points,
    zoom_of,
)
from ..augmentation import (
    STRONG,
    WORSENED,
    Strength,
    colour,
    degrade,
    jitter_bounds,
    occlude,
    random_roll,
    wear_mask,
    worsen,
)
from ..batches import AugmentedDataset
from ..pictures import read_training_image
from .taught_points import TaughtPoints
from .unlabelled_faces import FoundFaces

LANDMARK_CROP_SCALE = 1.3
"""Side of a crop, in longer sides of the landmarks' bounds."""
NEGATIVE_SHARE = 0.15
"""Fraction of training crops without a face, or with one cropped so badly that a tracker should drop it."""


def cut_face(image: Image, bounds: FloatArray, size: int, *, roll: float = 0.0) -> Crop:
    """Cut the square crop of a face.

    Args:
        image: Image (h, w, 3) uint8 BGR.
        bounds: Bounds (4,) of the landmarks, in px.
        size: Side of the crop in px.
        roll: In-plane rotation of the crop, in radians.
    """
    return cut_crop(image, crop_matrix(bounds, scale=LANDMARK_CROP_SCALE, size=size, roll=roll), size)


def to_fractions(points: FloatArray, crop: Crop) -> FloatArray:
    """Convert points (68, 2 or 3) from image px to fractions of a crop; the inverse of `Crop.to_image`."""
    moved = transform_points(points, crop.matrix)
    moved[..., :2] += 0.5
    return moved / crop.pixels.shape[0]


class LandmarkCrops(AugmentedDataset):
    """Augmented landmark crops.

    Samples are (image, points, presence), then points, presence and spread as teachers see them: image (size, size, 3)
    uint8 BGR, points (68, 3) and spread (68,) in fractions of the crop, and presence from 0 to 1. What is unknown is
    NaN: depths, the points of a crop without a face, the labels of an unlabelled face, and what no teacher has seen.

    Attributes:
        offsets: Offset (n,) in px by which each face's labels lie too far right. Mirrored pictures get labels with the
            same offset, as if they had been labelled themselves.
    """

    def __init__(
        self,
        table: LandmarkTable,
        *,
        size: int,
        seed: int,
        faces_of: Sequence[FloatArray],
        negatives: Sequence[Path] = (),
        strength: Strength = STRONG,
    ) -> None:
        super().__init__(seed)
        self.files = table.files
        self.labelled = len(table)
        self.size = size
        self.strength = strength
        self.worsened = 0.0
        self.faces_of = faces_of
        self.negative_files = negatives
        self.bounds = landmark_bounds(table.points)
        self.offsets: FloatArray = np.zeros(self.labelled)
        # By labels, then as teachers see them: points (2, n, 68, 3) px and presence (2, n); spread (n, 68) px.
        labels = np.concatenate([table.points, table.depth[..., None]], axis=2)
        self.points = np.stack([labels, np.full_like(labels, np.nan)])
        self.presence = np.stack([np.ones(self.labelled), np.full(self.labelled, np.nan)])
        self.spread = np.full(labels.shape[:2], np.nan)

    def read_images(self) -> None:
        """Read all pictures with labels; call it before the first sample is drawn."""
        labelled = self.files[: self.labelled]
        images = {file: read_training_image(file) for file in dict.fromkeys(labelled)}  # once for several faces
        self.images = [images[file] for file in labelled]
        self.negatives = [read_training_image(f) for f in self.negative_files]

    def add_taught(self, taught: TaughtPoints, unlabelled: FoundFaces) -> None:
        """Add the teachers' predictions, and the faces that only they label; worsen some crops from now on.

        Args:
            taught: Predictions for the faces with labels, then for those without.
            unlabelled: The faces without labels.
        """
        seen = (taught.presence >= 0.5)[:, None]
        unknown = np.full((len(unlabelled), *self.points.shape[2:]), np.nan)
        labels = np.concatenate([self.points[0], unknown])
        self.points = np.stack([labels, np.where(seen[..., None], taught.points, np.nan)])
        self.presence = np.stack([np.where(np.isnan(labels[:, 0, 0]), np.nan, 1.0), taught.presence])
        self.spread = taught.spread
        bounds = landmark_bounds(unlabelled.points)
        share = np.median(self.offsets / longer_side(self.bounds))
        self.offsets = np.concatenate([self.offsets, share * longer_side(bounds)])
        self.bounds = np.concatenate([self.bounds, bounds])
        self.files = (*self.files, *unlabelled.files)
        self.worsened = WORSENED * self.strength.degraded

    def __len__(self) -> int:
        """Return the samples of an epoch: every face with labels, and up to as many of those without."""
        return self.labelled + min(self.labelled, len(self.files) - self.labelled)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        rng = self.rng(index)
        if index >= self.labelled:
            index = int(rng.integers(self.labelled, len(self.files)))
        if index < self.labelled and rng.random() < NEGATIVE_SHARE:
            pixels = self._negative(index, rng)
            points, spread = np.full((2, POINTS, 3), np.nan), np.full(POINTS, np.nan)
            presence = np.array([0.0, np.nan])
        else:
            pixels, points, spread = self._positive(index, rng)
            presence = self.presence[:, index]
        pixels = colour(pixels, rng)
        if self.worsened and rng.random() < self.worsened:
            pixels = worsen(pixels, rng)
        elif rng.random() < self.strength.degraded:
            pixels = degrade(pixels, rng)
        labels, taught = torch.from_numpy(points.astype(np.float32))
        is_face, seen = torch.from_numpy(presence.astype(np.float32))
        return torch.from_numpy(pixels), labels, is_face, taught, seen, torch.from_numpy(spread.astype(np.float32))

    def _positive(self, index: int, rng: np.random.Generator) -> tuple[Image, FloatArray, FloatArray]:
        image = self.images[index] if index < self.labelled else read_training_image(self.files[index])
        bounds = jitter_bounds(self.bounds[index], rng, self.strength)
        crop = cut_face(image, bounds, self.size, roll=random_roll(rng, self.strength))
        points = to_fractions(self.points[:, index], crop)
        spread = self.spread[index] * zoom_of(crop.matrix) / self.size
        pixels = crop.pixels
        if rng.random() < self.strength.mirrored:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            points, spread = points[:, MIRRORED], spread[MIRRORED]
            offset = self.offsets[index] * crop.matrix[:, 0] / self.size
            points[..., 0] = 1 - points[..., 0] + 2 * offset[0]
            points[..., 1] -= 2 * offset[1]
        outlines = points[:, UNDER_A_MASK, :2] * self.size - 0.5
        known = ~np.isnan(outlines[:, 0, 0])
        if rng.random() < self.strength.masked and known.any():
            pixels = wear_mask(pixels, outlines[known][0], rng)
        if rng.random() < self.strength.occluded:
            pixels = occlude(pixels, rng)
        return pixels, points, spread

    def _negative(self, index: int, rng: np.random.Generator) -> Image:
        """Cut a crop without a face, or one that shows only half a face or is far too small or too large."""
        if self.negatives and rng.random() < 0.4:
            image = self.negatives[int(rng.integers(len(self.negatives)))]
            bounds = _random_square(image, rng)
            return cut_face(image, bounds, self.size, roll=random_roll(rng, self.strength)).pixels
        image = self.images[index]
        faces = np.concatenate([self.faces_of[index], self.bounds[index][None]])
        for _ in range(20):
            bounds = _missed(self.bounds[index], rng) if rng.random() < 0.6 else _random_square(image, rng)
            if intersection_over_union(bounds[None], faces).max() < 0.2:
                return cut_face(image, bounds, self.size, roll=random_roll(rng, self.strength)).pixels
        return np.full((self.size, self.size, 3), int(rng.integers(256)), dtype=np.uint8)


def _random_square(image: Image, rng: np.random.Generator) -> FloatArray:
    height, width = image.shape[:2]
    side = float(np.exp(rng.uniform(np.log(16), np.log(max(17, min(height, width))))))
    corner = rng.uniform(0, 1, 2) * np.array([max(width - side, 1), max(height - side, 1)])
    return np.concatenate([corner, corner + side])


def _missed(bounds: FloatArray, rng: np.random.Generator) -> FloatArray:
    side = np.max(bounds[2:] - bounds[:2])
    centre = (bounds[:2] + bounds[2:]) / 2
    zoom = float(np.exp(rng.normal(0, 0.9)))
    angle = rng.uniform(0, 2 * np.pi)
    distance = rng.uniform(0.3, 1.2) * max(1.0, zoom)
    centre = centre + side * distance * np.array([np.cos(angle), np.sin(angle)])
    return np.concatenate([centre - side * zoom / 2, centre + side * zoom / 2])


def validation_crops(table: LandmarkTable, size: int) -> tuple[Image, FloatArray]:
    """Cut the labelled faces without augmentation.

    Args:
        table: Faces to cut.
        size: Side of the crops in px.

    Returns:
        Crops (n, size, size, 3) uint8 and their points (n, 68, 3) in fractions of the crop.
    """
    pixels, points = [], []
    for file, bounds, xy, z in zip(table.files, landmark_bounds(table.points), table.points, table.depth, strict=True):
        crop = cut_face(read_training_image(file), bounds, size)
        pixels.append(crop.pixels)
        points.append(to_fractions(np.concatenate([xy, z[:, None]], axis=1), crop))
    return np.stack(pixels), np.stack(points)


def shifted_crops(table: LandmarkTable, size: int, *, shift: float) -> Image:
    """Cut the labelled faces off-centre, like the crops of a tracker that has lost its face.

    Args:
        table: Faces to cut.
        size: Side of the crops in px.
        shift: Distance to the right, in longer sides of the landmarks' bounds.

    Returns:
        Crops (n, size, size, 3) uint8.
    """
    bounds = landmark_bounds(table.points)
    sides = (bounds[:, 2:] - bounds[:, :2]).max(axis=1)
    moved = bounds + shift * sides[:, None] * np.array([1.0, 0.0, 1.0, 0.0])
    crops = (cut_face(read_training_image(f), b, size) for f, b in zip(table.files, moved, strict=True))
    return np.stack([crop.pixels for crop in crops])
