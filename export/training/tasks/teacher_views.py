"""Predictions of teachers, averaged over views of each face: slightly turned, closer and farther, mirrored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....bench.data.label_digest import label_digest
from ....runtime.pictures.images import read_image
from ....runtime.values import FloatArray, Image
from ....runtime.vision.crop import Crop, cut_crop
from ..array_cache import Arrays, cached_arrays
from ..config import ProgressCallback
from ..distillation import Teacher, Teachers
from ..pictures import picture_size

BATCH = 32


@dataclass(frozen=True, slots=True)
class View:
    """Change of a crop.

    Attributes:
        turn: Rotation in radians.
        zoom: Factor of the face's size.
        mirrored: Whether left and right change places.
    """

    turn: float = 0.0
    zoom: float = 1.0
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Regions:
    """Square regions of pictures that teachers look at.

    Attributes:
        files: Picture (n,) of each region.
        matrices: Affine maps (n, 2, 3) from px of the picture to a crop of 1 px.
    """

    files: Sequence[Path]
    matrices: FloatArray

    def crops(self, images: Sequence[Image], start: int, size: int, view: View) -> list[Crop]:
        """Cut the regions from `start` on, one for each image, to crops of `size` px, as seen in a view."""
        return [
            cut_crop(image, _zoomed(matrix, size, view), size)
            for image, matrix in zip(images, self.matrices[start:], strict=False)
        ]


def whole_picture(file: Path) -> FloatArray:
    """Return the affine map (2, 3) from px of a picture to a crop of 1 px that shows all of it, undistorted."""
    width, height = picture_size(file)
    side = max(height, width)
    return np.array([[1 / side, 0.0, (1 - width) / (2 * side)], [0.0, 1 / side, (1 - height) / (2 * side)]])


def _zoomed(matrix: FloatArray, size: int, view: View) -> FloatArray:
    """Return the map (2, 3) from px of the picture to a crop of `size` px, in a view."""
    cos, sin = view.zoom * size * np.array([np.cos(view.turn), np.sin(view.turn)])
    side = -1.0 if view.mirrored else 1.0
    zoomed = np.array([[side * cos, -side * sin], [sin, cos]]) @ matrix  # the crop of 1 px has its centre at 0
    zoomed[:, 2] += (size - 1) / 2
    return zoomed


Look = Callable[[Teacher, list[Crop]], FloatArray]
"""Runs a teacher on crops and returns its predictions (n, k), in terms of the picture."""


def predict_views(
    teachers: Teachers,
    regions: Callable[[Teacher], Regions],
    look: Look,
    *,
    views: Sequence[View],
    name: str,
    progress: ProgressCallback,
) -> tuple[FloatArray, FloatArray]:
    """Return the mean and the variance of the teachers' predictions over all views, or read them from the cache.

    Args:
        teachers: The teachers.
        regions: What a teacher looks at, the same faces for each.
        look: Runs a teacher.
        views: Views to average over; each costs a run of every teacher.
        name: What is predicted.
        progress: Called after each batch.

    Returns:
        Mean and variance (n, k).
    """
    squares = [regions(teacher) for teacher in teachers.members]
    files = squares[0].files
    key = [*views, label_digest(list(files))]
    for teacher, square in zip(teachers.members, squares, strict=True):
        key += [teacher.spec.weights_sha256, square.matrices.tobytes().hex()]

    def compute() -> Arrays:
        means, variances = [], []
        for start in range(0, len(files), BATCH):
            images = [read_image(file) for file in files[start : start + BATCH]]
            rows = [
                look(teacher, square.crops(images, start, teacher.spec.input_size[0], view))
                for teacher, square in zip(teachers.members, squares, strict=True)
                for view in views
            ]
            means.append(np.mean(rows, axis=0))
            variances.append(np.var(rows, axis=0))
            progress(f"teachers: {name}", min(start + BATCH, len(files)), len(files))
        return {"mean": np.concatenate(means), "variance": np.concatenate(variances)}

    arrays = cached_arrays(name, key, compute)
    return arrays["mean"], arrays["variance"]
