"""Changes the size of pictures."""

from __future__ import annotations

import cv2
import numpy as np

from ..values import Image, size_of


def reduced(image: Image, max_side: int) -> tuple[Image, float]:
    """Limit a picture's longer side to `max_side` px; return the picture and the factor, at most 1."""
    factor = min(1.0, max_side / max(image.shape[:2]))
    if factor == 1:
        return image, factor
    width, height = (max(1, round(side * factor)) for side in size_of(image))
    return shrink(image, (width, height)), factor


def shrink(image: Image, size: tuple[int, int]) -> Image:
    """Reduce an image to (width, height) px by averaging, after halving it, which OpenCV does ten times as fast."""
    width, height = size
    while (
        not (image.shape[0] % 2 or image.shape[1] % 2) and image.shape[1] >= 2 * width and image.shape[0] >= 2 * height
    ):
        half = (image.shape[1] // 2, image.shape[0] // 2)
        image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if size_of(image) == size:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def resized(picture: Image, size: int) -> Image:
    """Stretch a picture (h, w, 3) to (size, size, 3)."""
    shrinks = size < max(picture.shape[:2])
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (size, size), interpolation=method), dtype=np.uint8)


def pad_to_multiple(image: Image, multiple: int) -> Image:
    """Add black rows and columns at the bottom and the right until both sides are multiples of `multiple`."""
    height, width = image.shape[:2]
    bottom, right = -height % multiple, -width % multiple
    if not bottom and not right:
        return image
    padded = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return np.asarray(padded, dtype=np.uint8)
