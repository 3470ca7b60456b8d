"""Converts decoded frames to what a player shows: upright, unmirrored, with square pixels."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt

from ..values import Image

MAX_ASPECT = 4
"""Pixels that are more oblong than this are taken for a damaged header."""


def square_width(width: int, aspect: Fraction | None) -> int:
    """Compute the width of a picture in square pixels.

    Args:
        width: Width in px as stored.
        aspect: Width of a pixel divided by its height; None if unknown.

    Returns:
        The width in px; unchanged if the difference is a rounding error of one pixel.
    """
    if aspect is None or not Fraction(1, MAX_ASPECT) <= aspect <= MAX_ASPECT:
        return width
    square = round(width * aspect)
    return width if abs(square - width) <= 1 else square


def upright(pixels: Image, matrix: npt.NDArray[np.int32]) -> Image:
    """Turn and mirror a picture as its display matrix says.

    Args:
        pixels: Picture (h, w, 3) as stored.
        matrix: Nine numbers of a ``tkhd`` box (ISO/IEC 14496-12, 8.3.2): (x, y) is shown at
            (x·m[0] + y·m[3], x·m[1] + y·m[4]), where only the signs count and which numbers are large. An angle
            between the quarter turns counts as the nearest of them.

    Returns:
        The picture (h, w, 3), or (w, h, 3) after a quarter turn.
    """
    x_sign, y_sign = matrix[0], matrix[4]
    if abs(int(matrix[0])) + abs(int(matrix[4])) < abs(int(matrix[1])) + abs(int(matrix[3])):
        pixels = np.asarray(cv2.transpose(pixels), dtype=np.uint8)
        x_sign, y_sign = matrix[3], matrix[1]
    if x_sign < 0 or y_sign < 0:
        code = -1 if x_sign < 0 and y_sign < 0 else 1 if x_sign < 0 else 0
        pixels = np.asarray(cv2.flip(pixels, code), dtype=np.uint8)
    return pixels
