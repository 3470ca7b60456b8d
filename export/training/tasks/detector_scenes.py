"""Training scenes for the detector, composed of labelled images to contain faces of all sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ....bench.data.face_boxes import FaceTable
from ....runtime.values import FloatArray, Image
from ....runtime.vision.geometry import transform_points
from ...networks.detector_net import LEVELS
from ..augmentation import colour, degrade, occlude, wear_mask
from ..batches import AugmentedDataset
from ..pictures import read_training_image

MIN_SIDE_PX = 7.0
"""Smaller faces count neither as faces nor as background."""
SIZE_RANGES = ((0.0, 44.0), (28.0, 112.0), (80.0, np.inf))
"""Sides in px of the faces that each level detects; where the ranges overlap, both levels learn."""
MASKED_SHARE = 0.35
"""Fraction of the faces with landmarks to draw a mask on, because few of them wear one."""
DISTANT_SHARE = 0.25
"""Fraction of the pictures with faces to shrink to a part of the tile: a single small face, far from the camera."""
DISTANT_SIDE_PX = 64.0
"""Maximum side of such a face."""
UNLABELLED_WEIGHT = 0.5
"""Weight of the unlabelled pictures, relative to a labelled folder."""
RADIUS = 1.1
"""Maximum distance, in strides, between a face's centre and the centres of the cells that detect it."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Image with its faces.

    Attributes:
        pixels: Image (h, w, 3) uint8 BGR.
        boxes: Boxes (k, 4) of the faces, xyxy in px.
        ignored: Boxes (j, 4) of faces that do not count, being too small or cut off too far.
    """

    pixels: Image
    boxes: FloatArray
    ignored: FloatArray


class DetectorScenes(AugmentedDataset):
    """Scenes with a target for each of the detector's n cells.

    Samples are (image, boxes, labels, image): image (size, size, 3) uint8 BGR, boxes (n, 4) xyxy in px, labels (n,)
    that are 1 for a face, 0 for background and -1 for cells that do not count, and the image once more for teachers.
    """

    def __init__(
        self, tables: Sequence[FaceTable], *, size: int, length: int, seed: int, unlabelled: Sequence[Path] = ()
    ) -> None:
        super().__init__(seed)
        self.size = size
        self.length = length
        self.table = FaceTable.concat(list(tables))
        self.unlabelled = unlabelled
        self.weights = np.concatenate([_weights(t) for t in tables])
        self.unlabelled_share = UNLABELLED_WEIGHT / (UNLABELLED_WEIGHT + self.weights.sum()) if unlabelled else 0.0
        self.weights /= self.weights.sum()

    def read_images(self) -> None:
        """Read all pictures; call it before the first sample is drawn."""
        self.images = [read_training_image(f) for f in self.table.files]
        self.faceless = [image for image, boxes in zip(self.images, self.table.boxes, strict=True) if not len(boxes)]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scene = self.scene(self.rng(index))
        boxes, labels = assign(scene, self.size)
        image = torch.from_numpy(scene.pixels)
        return image, torch.from_numpy(boxes), torch.from_numpy(labels), image

    def scene(self, rng: np.random.Generator) -> Scene:
        """Compose a scene from one image, or from 2×2 or 3×3 of them."""
        canvas = np.full((self.size, self.size, 3), int(rng.integers(0, 256)) if rng.random() < 0.5 else 0, np.uint8)
        boxes: list[FloatArray] = [np.empty((0, 4))]
        ignored: list[FloatArray] = [np.empty((0, 4))]
        for x0, y0, x1, y1 in _layout(self.size, rng):
            tile = self._tile(x1 - x0, y1 - y0, rng)
            canvas[y0:y1, x0:x1] = tile.pixels
            offset = np.array([x0, y0, x0, y0])
            boxes.append(tile.boxes + offset)
            ignored.append(tile.ignored + offset)
        pixels = degrade(colour(canvas, rng), rng)
        if rng.random() < 0.2:
            pixels = occlude(pixels, rng, share=0.15)
        return Scene(pixels, np.concatenate(boxes), np.concatenate(ignored))

    def _tile(self, width: int, height: int, rng: np.random.Generator) -> Scene:
        if self.unlabelled and rng.random() < self.unlabelled_share:
            image = read_training_image(self.unlabelled[int(rng.integers(len(self.unlabelled)))])
            pixels = _placed(image, _placement(image, np.empty((0, 4)), width, height, rng), width, height, rng)
            return Scene(pixels, np.empty((0, 4)), ignored=np.array([[0.0, 0.0, width, height]]))
        index = int(rng.choice(len(self.images), p=self.weights))
        image, boxes = self.images[index], self.table.boxes[index]
        if len(self.table.lower_faces[index]) and rng.random() < MASKED_SHARE:
            image = wear_mask(image, self.table.lower_faces[index], rng)
        distant = len(boxes) > 0 and rng.random() < DISTANT_SHARE
        matrix = _placement(image, boxes, width, height, rng, distant=distant)
        surroundings = self._surroundings(width, height, rng) if distant else None
        pixels = _placed(image, matrix, width, height, rng, surroundings=surroundings)
        return _visible(pixels, _moved(boxes, matrix), width, height)

    def _surroundings(self, width: int, height: int, rng: np.random.Generator) -> Image | None:
        """Return a picture without faces, in the size of the tile; None in half of the cases."""
        if not self.faceless or rng.random() < 0.5:
            return None
        image = self.faceless[int(rng.integers(len(self.faceless)))]
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _weights(table: FaceTable) -> FloatArray:
    """Return the weights (n,) of a folder's images, which sum to 1, or 1/4 without faces; crowded images weigh more."""
    counts = np.array([len(b) for b in table.boxes])
    weights = 1.0 + np.sqrt(counts)
    return weights / weights.sum() * (1.0 if counts.any() else 0.25)


def _layout(size: int, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    kind = rng.random()
    if kind < 0.45:
        return [(0, 0, size, size)]
    parts = 2 if kind < 0.85 else 3
    if parts == 2:
        cuts = [[0, int(rng.uniform(0.3, 0.7) * size), size] for _ in range(2)]
    else:
        cuts = [[0, size // 3, 2 * size // 3, size] for _ in range(2)]
    return [(cuts[0][i], cuts[1][j], cuts[0][i + 1], cuts[1][j + 1]) for i in range(parts) for j in range(parts)]


def _placement(
    image: Image, boxes: FloatArray, width: int, height: int, rng: np.random.Generator, *, distant: bool = False
) -> FloatArray:
    """Draw an affine map (2, 3) from image to tile that gives a face a random size and place, or fits the image."""
    image_h, image_w = image.shape[:2]
    short = min(width, height)
    fitted = min(width / image_w, height / image_h)
    if distant or (len(boxes) and rng.random() < 0.75):
        box = boxes[int(rng.integers(len(boxes)))]
        side = max(box[2] - box[0], box[3] - box[1])
        largest = min(DISTANT_SIDE_PX, 0.5 * short) if distant else 0.95 * short
        wanted = float(np.exp(rng.uniform(np.log(9.0), np.log(largest))))
        smallest = 0.0 if distant else 0.6 * fitted  # much less would leave the tile empty
        zoom = float(np.clip(wanted / side, smallest, max(3.0, smallest)))
        anchor = (box[:2] + box[2:]) / 2
        margin = min(0.5, 0.5 * zoom * side / short)
        target = np.array([width, height]) * rng.uniform(margin, 1 - margin, 2)
    else:
        zoom = fitted * rng.uniform(0.75, 1.8)
        anchor = np.array([image_w, image_h]) * rng.uniform(0.35, 0.65, 2)
        target = np.array([width, height]) / 2
    angle = float(np.clip(rng.normal(0, 0.12), -0.5, 0.5)) if rng.random() < 0.5 else 0.0
    flip = -1.0 if rng.random() < 0.5 else 1.0
    linear = zoom * np.array([[flip * np.cos(angle), -np.sin(angle)], [flip * np.sin(angle), np.cos(angle)]])
    return np.concatenate([linear, (target - linear @ anchor)[:, None]], axis=1)


def _placed(
    image: Image,
    matrix: FloatArray,
    width: int,
    height: int,
    rng: np.random.Generator,
    *,
    surroundings: Image | None = None,
) -> Image:
    """Warp an image into a tile, over its surroundings or else over one colour or its own repeated edges."""
    zoom = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if zoom < 0.5:  # blur first, to avoid aliasing
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 / zoom), dtype=np.uint8)
    if surroundings is not None:
        warped = cv2.warpAffine(image, matrix, (width, height), dst=surroundings, borderMode=cv2.BORDER_TRANSPARENT)
    elif rng.random() < 0.5:
        warped = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    else:
        fill = tuple(int(v) for v in rng.integers(0, 256, 3))
        warped = cv2.warpAffine(image, matrix, (width, height), borderValue=fill)
    return np.asarray(warped, dtype=np.uint8)


def _moved(boxes: FloatArray, matrix: FloatArray) -> FloatArray:
    """Map the centres of boxes and scale their sides; the small rotations do not change a box's shape."""
    zoom = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    centres = transform_points((boxes[:, :2] + boxes[:, 2:]) / 2, matrix)
    half = zoom * (boxes[:, 2:] - boxes[:, :2]) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def _visible(pixels: Image, boxes: FloatArray, width: int, height: int) -> Scene:
    limit = np.array([width, height, width, height])
    inside = np.clip(boxes, 0, limit)
    sides = inside[:, 2:] - inside[:, :2]
    share = sides.prod(axis=1) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9)
    wanted = (share >= 0.55) & (sides.max(axis=1, initial=0) >= MIN_SIDE_PX)
    doubtful = ~wanted & (share > 0.05)
    return Scene(pixels, inside[wanted], inside[doubtful])


def cells(size: int) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """List the detector's cells for a square input, the finest level first.

    Args:
        size: Side of the input in px.

    Returns:
        Centres (n, 2) in px, strides (n,) in px, and level numbers (n,).
    """
    centres, strides, levels = [], [], []
    for number, stride in enumerate(LEVELS):
        line = (np.arange(size // stride) + 0.5) * stride
        grid_y, grid_x = np.meshgrid(line, line, indexing="ij")
        centres.append(np.stack([grid_x.ravel(), grid_y.ravel()], axis=1))
        strides.append(np.full(grid_x.size, float(stride)))
        levels.append(np.full(grid_x.size, number))
    return np.concatenate(centres), np.concatenate(strides), np.concatenate(levels)


def assign(scene: Scene, size: int) -> tuple[FloatArray, FloatArray]:
    """Assign faces to the detector's cells.

    A face is assigned to the cells near its centre on the levels for its size; if faces compete, the smaller wins.

    Args:
        scene: Square image with its faces.
        size: Side of the image in px.

    Returns:
        Boxes (n, 4) float32, xyxy in px, and labels (n,) float32: 1 for a face, 0 for background, -1 for cells that do
        not count.
    """
    centres, strides, levels = cells(size)
    boxes = np.zeros((len(centres), 4), dtype=np.float32)
    labels = np.zeros(len(centres), dtype=np.float32)
    for box in scene.ignored:
        labels[((centres >= box[:2]) & (centres <= box[2:])).all(axis=1)] = -1
    ranges = np.array(SIZE_RANGES)
    for box in sorted(scene.boxes, key=lambda b: -float((b[2:] - b[:2]).prod())):
        side = float((box[2:] - box[:2]).max())
        fitting = ((side >= ranges[:, 0]) & (side < ranges[:, 1]))[levels]
        near = (np.abs(centres - (box[:2] + box[2:]) / 2) <= RADIUS * strides[:, None]).all(axis=1)
        inside = ((centres >= box[:2]) & (centres <= box[2:])).all(axis=1)
        boxes[fitting & near] = box
        labels[fitting & near] = 1
        # Cells of other levels near the centre may or may not detect the face: ignore them.
        labels[~fitting & near & inside & (labels == 0)] = -1
    return boxes, labels
