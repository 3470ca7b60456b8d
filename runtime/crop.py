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

    A crop much smaller than its source is taken from a reduced copy of the source, so that it does not alias.
    """
    zoom = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if zoom < 0.5:
        corners = transform_points(
            np.array([[0.0, 0.0], [size, 0.0], [0.0, size], [size, size]]), invert_affine(matrix)
        )
        x0, y0 = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 2, 0)
        x1, y1 = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 3, [image.shape[1], image.shape[0]])
        if x1 - x0 > 1 and y1 - y0 > 1:
            window = image[y0:y1, x0:x1]
            target = (max(1, round((x1 - x0) * zoom)), max(1, round((y1 - y0) * zoom)))
            reduced = cv2.resize(window, target, interpolation=cv2.INTER_AREA)
            # index in the image = offset + (index in the reduced window + 0.5) · step − 0.5
            step = np.array([(x1 - x0) / target[0], (y1 - y0) / target[1]])
            to_image = np.diag(step), np.array([x0, y0]) + 0.5 * step - 0.5
            linear = matrix[:, :2] @ to_image[0]
            offset = matrix[:, :2] @ to_image[1] + matrix[:, 2]
            pixels = _warp(reduced, np.concatenate([linear, offset[:, None]], axis=1), size)
            return Crop(pixels=pixels, matrix=matrix)
    return Crop(pixels=_warp(image, matrix, size), matrix=matrix)


def _warp(image: npt.NDArray[Any], matrix: FloatArray, size: int) -> Image:
    warped = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
    return np.asarray(warped, dtype=np.uint8)
