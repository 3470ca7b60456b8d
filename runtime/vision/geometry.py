"""Geometry of boxes, landmarks and affine maps. Boxes are (n, 4) xyxy px; points are (…, 2 or 3) px."""

from __future__ import annotations

import math

import numpy as np

from ..values import FloatArray

# A face box reaches up to the hairline, landmarks only to the brows. On the training set the median box
# stands 0.32 of the landmarks' height above the topmost point; the other three sides coincide within 2 %.
FOREHEAD = 0.32

SAME_FACE_IOU = 0.3
"""Minimum overlap of two boxes of the same face."""


def landmark_bounds(points: FloatArray) -> FloatArray:
    """Return the bounds of points (…, 68, ≥ 2) as xyxy boxes (…, 4)."""
    xy = points[..., :2]
    return np.concatenate([xy.min(axis=-2), xy.max(axis=-2)], axis=-1)


def box_from_bounds(bounds: FloatArray) -> FloatArray:
    """Return face boxes (…, 4) for landmark bounds (…, 4), adding the forehead on top."""
    box = bounds.copy()
    box[..., 1] -= FOREHEAD * (bounds[..., 3] - bounds[..., 1])
    return box


def bounds_from_box(box: FloatArray, *, quarter_turns: int = 0) -> FloatArray:
    """Return landmark bounds (…, 4) for face boxes (…, 4); the inverse of `box_from_bounds`.

    Args:
        box: Boxes, xyxy px.
        quarter_turns: Clockwise rotation of the faces in steps of 90°, 0 to 3, which determines the forehead's side.
    """
    side = (1, 2, 3, 0)[quarter_turns]
    bounds = box.copy()
    bounds[..., side] = (box[..., side] + FOREHEAD * box[..., (side + 2) % 4]) / (1.0 + FOREHEAD)
    return bounds


def crop_matrix(bounds: FloatArray, *, scale: float, size: int, roll: float = 0.0) -> FloatArray:
    """Return the affine map (2, 3) from image px to a square crop around landmark bounds.

    Args:
        bounds: Landmark bounds (4,), xyxy px.
        scale: Side of the crop over the longer side of the bounds.
        size: Side of the crop, px.
        roll: Rotation of the face, radians clockwise, which the crop undoes.
    """
    x0, y0, x1, y1 = bounds.tolist()
    zoom = size / (scale * max(x1 - x0, y1 - y0, 1e-6))
    cos, sin = zoom * math.cos(roll), zoom * math.sin(roll)
    # The bounds' centre lands on the crop's: between the pixels of an even size, whose centres are their indices.
    x, y, middle = (x0 + x1) / 2, (y0 + y1) / 2, (size - 1) / 2
    return np.array([[cos, sin, middle - cos * x - sin * y], [-sin, cos, middle + sin * x - cos * y]])


def roll_of(landmarks: FloatArray) -> FloatArray:
    """Return the in-plane rotation (n,), radians clockwise, of landmarks (n, 68, ≥ 2): the slope between the eyes."""
    eyes = landmarks[:, 36:48, :2].reshape(-1, 2, 6, 2).sum(axis=2)
    across = eyes[:, 1] - eyes[:, 0]
    return np.arctan2(across[:, 1], across[:, 0])


def transform_points(points: FloatArray, matrix: FloatArray) -> FloatArray:
    """Apply an affine map (2, 3) to the x, y of points (…, 2 or 3); z is scaled by the map's zoom."""
    if points.shape[-1] == 2:
        return points @ matrix[:, :2].T + matrix[:, 2]
    moved = np.empty(points.shape)  # x and y apart from z, which may be NaN
    moved[..., :2] = points[..., :2] @ matrix[:, :2].T + matrix[:, 2]
    moved[..., 2] = points[..., 2] * zoom_of(matrix)
    return moved


def zoom_of(matrix: FloatArray) -> float:
    """Return the factor by which an affine map (2, 3) scales lengths: the root of its area ratio."""
    (a, b, _), (c, d, _) = matrix.tolist()
    return math.sqrt(abs(a * d - b * c))


def invert_affine(matrix: FloatArray) -> FloatArray:
    """Invert an affine map (2, 3)."""
    (a, b, x), (c, d, y) = matrix.tolist()
    area = a * d - b * c
    a, b, c, d = d / area, -b / area, -c / area, a / area
    return np.array([[a, b, -a * x - b * y], [c, d, -c * x - d * y]])


def longer_side(boxes: FloatArray) -> FloatArray:
    """Return the longer side (n,) of boxes (n, 4)."""
    sides: FloatArray = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    return sides


def overlap_area(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the pairwise intersection area (n, m) of boxes (n, 4) and (m, 4)."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    area: FloatArray = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    return area


def intersection_over_union(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the pairwise IoU (n, m) of boxes (n, 4) and (m, 4)."""
    overlap = overlap_area(a, b)
    area_a = np.clip(a[:, 2:] - a[:, :2], 0, None).prod(axis=1)
    area_b = np.clip(b[:, 2:] - b[:, :2], 0, None).prod(axis=1)
    return overlap / np.maximum(area_a[:, None] + area_b[None] - overlap, 1e-9)
