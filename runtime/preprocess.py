"""Whole pictures as a model's input."""

from __future__ import annotations

import cv2
import numpy as np

from .values import Image


def resized(picture: Image, size: int) -> Image:
    """A picture (h, w, 3) stretched to (size, size, 3)."""
    shrinks = size < max(picture.shape[:2])
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (size, size), interpolation=method), dtype=np.uint8)
