"""Finds faces rotated in the picture plane, which the detector was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from ..values import GREY, Faces, FloatArray, Image, size_of
from ..vision.geometry import (
    SAME_FACE_IOU,
    box_from_bounds,
    intersection_over_union,
    invert_affine,
    landmark_bounds,
    transform_points,
)
from ..vision.resize import reduced
from .landmarks import SURE

ANGLES = (90, 180, 270, 45, 135, 225, 315)
"""Rotations of the picture to try, in degrees; as faces are found up to 30° either way, these cover all angles."""
MAX_SIDE = 3000
"""Maximum longer side in px of pictures to rotate, as a rotated copy is as wide and high as their diagonal."""


def find_turned(image: Image, find_upright: Callable[[Image], Faces], unsure: Faces) -> Faces:
    """Search rotated copies of a picture in which no upright face is certain.

    Args:
        image: Picture (h, w, 3), uint8 BGR.
        find_upright: Finds upright faces with landmarks and presence.
        unsure: Faces that it found in `image` itself; kept unless a rotated face lies there.

    Returns:
        Faces in the copy whose certain faces have the highest total score, mapped back to `image`, and the unsure ones,
        best score first.
    """
    best = Faces.empty()
    small, factor = reduced(image, MAX_SIDE)
    to_small = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2]])  # a pixel's centre is its index
    for copy, turn in _turned_copies(small):
        matrix = turn[:, :2] @ to_small + np.pad(turn[:, 2:], ((0, 0), (2, 0)))
        found = find_upright(copy)
        found = found.mask(found.presence >= SURE)
        if found.scores.sum() > best.scores.sum():
            best = _mapped(found, invert_affine(matrix))
    if not len(best):
        return unsure
    if len(unsure):
        unsure = unsure.mask(intersection_over_union(unsure.boxes, best.boxes).max(axis=1) < SAME_FACE_IOU)
    faces = Faces.concat([best, unsure])
    return faces.mask(np.argsort(-faces.scores, kind="stable"))


def _turned_copies(image: Image) -> Iterator[tuple[Image, FloatArray]]:
    """Yield the whole picture rotated by each angle, with the affine map (2, 3) to the copy."""
    width, height = size_of(image)
    for angle in ANGLES:
        matrix = np.asarray(cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0), dtype=np.float64)
        cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
        size = round(width * cos + height * sin), round(width * sin + height * cos)
        matrix[:, 2] += [(size[0] - width) / 2, (size[1] - height) / 2]
        copy = cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_CONSTANT, borderValue=GREY)
        yield np.asarray(copy, dtype=np.uint8), matrix


def _mapped(faces: Faces, matrix: FloatArray) -> Faces:
    """Map faces by a rotation; boxes become upright ones around forehead and landmarks."""
    upright = box_from_bounds(landmark_bounds(faces.landmarks))
    corners = upright[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    return faces.with_fields(
        landmarks=np.stack([transform_points(points, matrix) for points in faces.landmarks]),
        boxes=landmark_bounds(transform_points(corners, matrix)),
    )
