"""Cut a face out of a picture, upright where its landmarks allow it."""

from __future__ import annotations

import math

import numpy as np

from ..values import Faces, Image, size_of
from .crop import CROP_SCALE, alignment_matrix, cut_crop

PLAIN_MARGIN = 0.2
"""Margin of a crop around the box, on each side, over the side of the box."""
HOLDS = 0.5
"""Presence below which landmarks do not align a crop."""
MAX_SIDE_PX = 1024


def face_crop(picture: Image, faces: Faces, i: int) -> Image:
    """Cut out a face in about the resolution of the picture.

    Args:
        picture: Image (h, w, 3) uint8 BGR.
        faces: Its faces.
        i: Number of the face in `faces`.

    Returns:
        A square with upright eyes, as the age and gender model sees it, if the landmarks hold; else the box with a
        margin, as far as it lies in the picture.
    """
    points = faces.landmarks[i]
    if landmarks_hold(faces, i):
        eyes = float(np.linalg.norm(points[45, :2] - points[36, :2]))
        size = min(max(math.ceil(CROP_SCALE * eyes), 8), MAX_SIDE_PX)
        return cut_crop(picture, alignment_matrix(points, scale=CROP_SCALE, size=size), size).pixels
    box = faces.boxes[i]
    margin = PLAIN_MARGIN * np.tile(box[2:] - box[:2], 2) * [-1, -1, 1, 1]
    x0, y0, x1, y1 = np.clip((box + margin).round(), 0, np.tile(size_of(picture), 2)).astype(int).tolist()
    return picture[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]


def landmarks_hold(faces: Faces, i: int) -> bool:
    """Check whether a face has landmarks that a crop can be aligned by."""
    return bool(np.isfinite(faces.landmarks[i]).all() and faces.presence[i] >= HOLDS)
