"""Cuts a face out of a picture, upright if its landmarks allow."""

from __future__ import annotations

import math

import numpy as np

from ..values import Faces, Image, size_of
from .crop import CROP_SCALE, alignment_matrix, cut_crop

PLAIN_MARGIN = 0.2
"""Margin on each side of a crop around the box, in box sides."""
HOLDS = 0.5
"""Minimum presence for landmarks to align a crop."""
MAX_SIDE_PX = 1024


def face_crop(picture: Image, faces: Faces, i: int) -> Image:
    """Cut out a face at about the resolution of the picture.

    Args:
        picture: Image (h, w, 3) uint8 BGR.
        faces: Faces in the picture.
        i: Index of the face in `faces`.

    Returns:
        A square with level eyes, like the input of the age and gender model, if the landmarks are reliable; else the
        box with a margin, clipped to the picture; at least one pixel.
    """
    points = faces.landmarks[i]
    if landmarks_hold(faces, i):
        eyes = float(np.linalg.norm(points[45, :2] - points[36, :2]))
        size = min(max(math.ceil(CROP_SCALE * eyes), 8), MAX_SIDE_PX)
        return cut_crop(picture, alignment_matrix(points, scale=CROP_SCALE, size=size), size).pixels
    box = faces.boxes[i]
    margin, limits = PLAIN_MARGIN * (box[2:] - box[:2]), np.array(size_of(picture))
    start = np.clip((box[:2] - margin).round(), 0, limits - 1).astype(int)
    end = np.clip((box[2:] + margin).round(), start + 1, limits).astype(int)
    return picture[start[1] : end[1], start[0] : end[0]]


def landmarks_hold(faces: Faces, i: int) -> bool:
    """Return whether a face's landmarks are reliable enough to align a crop."""
    return bool(np.isfinite(faces.landmarks[i]).all() and faces.presence[i] >= HOLDS)
