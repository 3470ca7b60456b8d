"""Training and validation crops for the landmark network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ....bench.data.landmark_labels import MIRRORED, UNDER_A_MASK, LandmarkTable
from ....runtime.pictures.images import read_image
from ....runtime.values import FloatArray, Image
from ....runtime.vision.crop import Crop, cut_crop
from ....runtime.vision.geometry import crop_matrix, intersection_over_union, landmark_bounds, transform_points
from ..augmentation import (
    STRONG,
    Strength,
    colour,
    degrade,
    jitter_bounds,
    occlude,
    random_roll,
    wear_mask,
)
from ..batches import AugmentedDataset

NEGATIVE_SHARE = 0.15
"""Fraction of training crops without a face, or with one cropped so badly that a tracker should drop it."""


@dataclass(frozen=True, slots=True)
class CropSize:
    """Size of a landmark crop.

    Attributes:
        size: Side in px of the crop.
        scale: Side of the crop, in longer sides of the landmarks' bounds.
    """

    size: int
    scale: float


def cut_face(image: Image, bounds: FloatArray, shape: CropSize, *, roll: float = 0.0) -> Crop:
    """Cut the square crop of a face.

    Args:
        image: Image (h, w, 3) uint8 BGR.
        bounds: Bounds (4,) of the landmarks, in px.
        shape: Size of the crop.
        roll: In-plane rotation of the crop, in radians.
    """
    return cut_crop(image, crop_matrix(bounds, scale=shape.scale, size=shape.size, roll=roll), shape.size)


def to_fractions(points: FloatArray, crop: Crop) -> FloatArray:
    """Convert points (68, 2 or 3) from image px to fractions of a crop; the inverse of `Crop.to_image`."""
    moved = transform_points(points, crop.matrix)
    moved[..., :2] += 0.5
    return moved / crop.pixels.shape[0]


class LandmarkCrops(AugmentedDataset):
    """Augmented landmark crops.

    Samples are (image, points, presence): image (size, size, 3) uint8 BGR, points (68, 3) in fractions of the crop with
    z NaN where it is unknown, all NaN without a face, and presence 0 or 1.
    """

    def __init__(
        self,
        table: LandmarkTable,
        *,
        shape: CropSize,
        seed: int,
        faces_of: Sequence[FloatArray],
        negatives: Sequence[Path] = (),
        strength: Strength = STRONG,
    ) -> None:
        super().__init__(seed)
        self.table = table
        self.shape = shape
        self.strength = strength
        self.faces_of = faces_of
        self.negative_files = negatives
        self.bounds = landmark_bounds(table.points)

    def read_images(self) -> None:
        """Read all pictures; call it before the first sample is drawn."""
        self.images = [read_image(f) for f in self.table.files]
        self.negatives = [read_image(f) for f in self.negative_files]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = self.rng(index)
        if rng.random() < NEGATIVE_SHARE:
            pixels = self._negative(index, rng)
            points, presence = np.full((68, 3), np.nan), 0.0
        else:
            pixels, points = self._positive(index, rng)
            presence = 1.0
        pixels = colour(pixels, rng)
        if rng.random() < self.strength.degraded:
            pixels = degrade(pixels, rng)
        return torch.from_numpy(pixels), torch.from_numpy(points.astype(np.float32)), torch.tensor(presence)

    def _positive(self, index: int, rng: np.random.Generator) -> tuple[Image, FloatArray]:
        bounds = jitter_bounds(self.bounds[index], rng, self.strength)
        crop = cut_face(self.images[index], bounds, self.shape, roll=random_roll(rng, self.strength))
        labels = np.concatenate([self.table.points[index], self.table.depth[index][:, None]], axis=1)
        points = to_fractions(labels, crop)
        pixels = crop.pixels
        if rng.random() < self.strength.mirrored:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            points = points[MIRRORED]
            points[:, 0] = 1 - points[:, 0]
        if rng.random() < self.strength.masked:
            outline = points[UNDER_A_MASK, :2] * self.shape.size - 0.5
            pixels = wear_mask(pixels, outline, rng)
        if rng.random() < self.strength.occluded:
            pixels = occlude(pixels, rng)
        return pixels, points

    def _negative(self, index: int, rng: np.random.Generator) -> Image:
        """Cut a crop without a face, or one that shows only half a face or is far too small or too large."""
        if self.negatives and rng.random() < 0.4:
            image = self.negatives[int(rng.integers(len(self.negatives)))]
            bounds = _random_square(image, rng)
            return cut_face(image, bounds, self.shape, roll=random_roll(rng, self.strength)).pixels
        image = self.images[index]
        faces = np.concatenate([self.faces_of[index], self.bounds[index][None]])
        for _ in range(20):
            bounds = _missed(self.bounds[index], rng) if rng.random() < 0.6 else _random_square(image, rng)
            if intersection_over_union(bounds[None], faces).max() < 0.2:
                return cut_face(image, bounds, self.shape, roll=random_roll(rng, self.strength)).pixels
        return np.full((self.shape.size, self.shape.size, 3), int(rng.integers(256)), dtype=np.uint8)


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


def validation_crops(table: LandmarkTable, shape: CropSize) -> tuple[Image, FloatArray]:
    """Cut the labelled faces without augmentation.

    Args:
        table: Faces to cut.
        shape: Size of the crops.

    Returns:
        Crops (n, size, size, 3) uint8 and their points (n, 68, 3) in fractions of the crop.
    """
    pixels, points = [], []
    for file, bounds, xy, z in zip(table.files, landmark_bounds(table.points), table.points, table.depth, strict=True):
        crop = cut_face(read_image(file), bounds, shape)
        pixels.append(crop.pixels)
        points.append(to_fractions(np.concatenate([xy, z[:, None]], axis=1), crop))
    return np.stack(pixels), np.stack(points)


def shifted_crops(table: LandmarkTable, shape: CropSize, *, shift: float) -> Image:
    """Cut the labelled faces off-centre, like the crops of a tracker that has lost its face.

    Args:
        table: Faces to cut.
        shape: Size of the crops.
        shift: Distance to the right, in longer sides of the landmarks' bounds.

    Returns:
        Crops (n, size, size, 3) uint8.
    """
    bounds = landmark_bounds(table.points)
    sides = (bounds[:, 2:] - bounds[:, :2]).max(axis=1)
    moved = bounds + shift * sides[:, None] * np.array([1.0, 0.0, 1.0, 0.0])
    return np.stack([cut_face(read_image(f), b, shape).pixels for f, b in zip(table.files, moved, strict=True)])
