"""Landmarks as teachers see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ....runtime.values import POINTS, FloatArray
from ....runtime.vision.crop import Crop
from ....runtime.vision.geometry import crop_matrix, landmark_bounds, roll_of, zoom_of
from ...networks.landmark_net import expectation, heat_map_variance
from ..batches import predict_batches
from ..config import ProgressCallback
from ..distillation import Teacher, Teachers
from .teacher_views import Regions, View, predict_views

DEPTH, SPREAD, PRESENCE = 2, 3, 4
VIEWS = (View(), View(0.08, 1.05), View(-0.08, 0.95))
"""Views of a face. None is mirrored, since a network that learnt labels with an offset repeats it in a mirrored picture
in the other direction: the shipped one's NME is 3.99 % in the first view, 3.93 % over all three, and 4.30 % over the
first and its mirror image."""


@dataclass(frozen=True, slots=True)
class TaughtPoints:
    """Predictions of the teachers, one row per face.

    Attributes:
        points: Points (n, 68, 3) in px of the picture; z is NaN where a teacher has no depth.
        spread: Standard deviation (n, 68) of each point, in px: within the heat maps, and among teachers and views.
        presence: Probability (n,) that there is a face.
    """

    points: FloatArray
    spread: FloatArray
    presence: FloatArray


def teach_points(
    teachers: Teachers, files: Sequence[Path], points: FloatArray, *, progress: ProgressCallback
) -> TaughtPoints:
    """Let the teachers locate the landmarks of faces, each in an upright, undisturbed crop.

    Args:
        teachers: Landmark networks.
        files: Picture (n,) of each face.
        points: Landmarks (n, 68, 2) in px, labelled or found, which the crops are cut around.
        progress: Called after each batch.
    """
    bounds, rolls = landmark_bounds(points), roll_of(points)

    def regions(teacher: Teacher) -> Regions:
        scale = teacher.spec.crop_scale
        squares = [crop_matrix(b, scale=scale, size=1, roll=float(r)) for b, r in zip(bounds, rolls, strict=True)]
        return Regions(files, np.reshape(squares, (-1, 2, 3)))

    mean, variance = predict_views(teachers, regions, _look, views=VIEWS, name="landmarks", progress=progress)
    mean, variance = (a.reshape(len(files), POINTS, PRESENCE + 1) for a in (mean, variance))
    spread = np.sqrt(mean[..., SPREAD] + variance[..., :2].mean(axis=2))
    return TaughtPoints(mean[..., : DEPTH + 1], spread, mean[:, 0, PRESENCE])


def _look(teacher: Teacher, crops: list[Crop]) -> FloatArray:
    """Return x, y, z, the heat map's variance and the presence of each point, as rows (n, 68 · 5)."""
    pixels = torch.from_numpy(np.stack([crop.pixels for crop in crops]))
    heat, depth, presence = predict_batches(teacher.net, pixels, method="heat_maps")
    if teacher.spec.dims == 2:
        depth = torch.full_like(depth, torch.nan)
    located = torch.cat([expectation(heat), depth.unsqueeze(2)], dim=2).numpy().astype(np.float64)
    variance = heat_map_variance(heat).numpy()
    rows = np.empty((len(crops), POINTS, PRESENCE + 1))
    for row, crop, xyz, spread in zip(rows, crops, located, variance, strict=True):
        row[:, : DEPTH + 1] = crop.to_image(xyz)
        row[:, SPREAD] = spread * (crop.pixels.shape[0] / zoom_of(crop.matrix)) ** 2
    rows[:, :, PRESENCE] = presence.sigmoid().numpy()[:, None]
    return rows.reshape(len(crops), -1)
