"""Square crops of an image, and the way back to image pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .geometry import invert_affine, transform_points
from .values import FloatArray, Image


@dataclass(frozen=True, slots=True)
class Crop:
    """A square cut out of an image. pixels: (size, size, 3) uint8 BGR. matrix: (2, 3), image px to crop px."""

    pixels: Image
    matrix: FloatArray

    def to_image(self, points_crop: FloatArray) -> FloatArray:
        """Take points (…, 2 or 3) in fractions of the crop back to image px; z is scaled alike."""
        pixels = points_crop * self.pixels.shape[0]
        pixels[..., :2] -= 0.5  # fractions count from the crop's edge, pixel indices from the first centre
        return transform_points(pixels, invert_affine(self.matrix))


def cut_crop(image: Image, matrix: FloatArray, size: int) -> Crop:
    """Cut a crop (size, size, 3) out of `image` (h, w, 3); what lies outside is black.

    A crop much smaller than its source is taken from a copy reduced by a whole number, so that it does not alias.
    """
    step = int(1 / max(float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))), 1e-3))
    if step < 2:
        return Crop(pixels=_warp(image, matrix, size), matrix=matrix)
    x0, y0, x1, y1 = _window(image, matrix, size)
    if x1 - x0 < step or y1 - y0 < step:  # the crop lies outside, or the image is a line
        return Crop(pixels=np.zeros((size, size, 3), np.uint8), matrix=matrix)
    columns, rows = -(-(x1 - x0) // step), -(-(y1 - y0) // step)
    window = image[y0 : y0 + rows * step, x0 : x0 + columns * step]
    window = window[: window.shape[0] // step * step, : window.shape[1] // step * step]
    reduced = cv2.resize(window, (window.shape[1] // step, window.shape[0] // step), interpolation=cv2.INTER_AREA)
    # index in the image = offset + (index in the reduced window + 0.5) · step − 0.5
    offset = matrix[:, :2] @ (np.array([x0, y0]) + 0.5 * step - 0.5) + matrix[:, 2]
    to_crop = np.concatenate([matrix[:, :2] * step, offset[:, None]], axis=1)
    return Crop(pixels=_warp(reduced, to_crop, size), matrix=matrix)


def _window(image: Image, matrix: FloatArray, size: int) -> tuple[int, int, int, int]:
    """Bounds x0, y0, x1, y1 of the part of an image that a crop shows, with a margin, clipped to the image."""
    square = np.array([[0.0, 0.0], [size, 0.0], [0.0, size], [size, size]])
    corners = transform_points(square, invert_affine(matrix))
    x0, y0 = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 2, 0)
    x1, y1 = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 3, [image.shape[1], image.shape[0]])
    return int(x0), int(y0), int(x1), int(y1)


def _warp(image: npt.NDArray[Any], matrix: FloatArray, size: int) -> Image:
    warped = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
    return np.asarray(warped, dtype=np.uint8)
