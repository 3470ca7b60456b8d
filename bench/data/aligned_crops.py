"""Maps aligned face crops of any shape to a network's square input."""

from __future__ import annotations

import cv2
import numpy as np

from ...runtime.values import Image
from ...runtime.vision.resize import resized


def squared(crop: Image) -> Image:
    """Extend the shorter sides of a crop (h, w, 3) by reflection, so that resizing does not distort the face."""
    height, width = crop.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    margins = top, side - height - top, left, side - width - left
    if not any(margins):
        return crop
    return np.asarray(cv2.copyMakeBorder(crop, *margins, cv2.BORDER_REFLECT_101), dtype=np.uint8)


def aligned_input(crop: Image, size: int) -> Image:
    """Resize an aligned crop (h, w, 3) to (size, size, 3), keeping its proportions."""
    return resized(squared(crop), size)
