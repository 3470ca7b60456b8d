"""Cuts square crops out of an image, and maps points back to image pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..values import FloatArray, Image
from .geometry import invert_affine, transform_points, zoom_of
from .mean_face import CANONICAL
from .resize import shrink

CROP_SCALE = 1.855
"""Side of an aligned crop in outer eye distances, as in UTKFace's crops (median of 600)."""
EYE_HEIGHT = 0.3
"""Distance of the eyes from the top of an aligned crop, as a fraction of its side (likewise)."""
WARP_LIMIT_PX = 2**15 - 2
"""Longest side of an image that OpenCV 4 warps."""
_INNER = slice(17, 68)
"""Brows to lips; the jaw line changes with the pose."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A square cut out of an image.

    Attributes:
        pixels: The crop (size, size, 3), uint8 BGR.
        matrix: Affine map (2, 3) from image px to crop px.
    """

    pixels: Image
    matrix: FloatArray

    def to_image(self, points_crop: FloatArray) -> FloatArray:
        """Map points (…, 2 or 3) in fractions of the crop to image px; z is scaled by the same factor."""
        (a, b, x), (c, d, y) = invert_affine(self.matrix).tolist()
        x, y = x - (a + b) / 2, y - (c + d) / 2  # fractions count from the crop's edge, indices from the first centre
        size = self.pixels.shape[0]
        return transform_points(points_crop, np.array([[a * size, b * size, x], [c * size, d * size, y]]))


def cut_crop(image: Image, matrix: FloatArray, size: int, *, reduce_from: float = 2.0) -> Crop:
    """Cut a crop out of an image; pixels outside the image are black.

    If the crop is much smaller than its source, it is sampled from a copy reduced by an integer factor, to avoid
    aliasing.

    Args:
        image: Picture (h, w, 3), uint8 BGR.
        matrix: Affine map (2, 3) from image px to crop px.
        size: Side of the crop, px.
        reduce_from: Number of image px per crop px, at least 2, from which the image is reduced first.
    """
    step = int(1 / max(zoom_of(matrix), 1e-3))
    if step < reduce_from:
        if max(image.shape[:2]) <= WARP_LIMIT_PX:
            return Crop(pixels=_warp(image, matrix, size), matrix=matrix)
        step = 1  # cut the window out, at full size
    x0, y0, x1, y1 = _window(image, matrix, size)
    if x1 - x0 < step or y1 - y0 < step:  # the crop lies outside, or the image is a line
        return Crop(pixels=np.zeros((size, size, 3), np.uint8), matrix=matrix)
    columns, rows = -(-(x1 - x0) // step), -(-(y1 - y0) // step)
    window = image[y0 : y0 + rows * step, x0 : x0 + columns * step]
    window = window[: window.shape[0] // step * step, : window.shape[1] // step * step]
    reduced = shrink(window, (window.shape[1] // step, window.shape[0] // step))
    # index in the image = offset + (index in the reduced window + 0.5) · step − 0.5
    (a, b, x), (c, d, y) = matrix.tolist()
    left, top = x0 + 0.5 * step - 0.5, y0 + 0.5 * step - 0.5
    to_crop = np.array([[a * step, b * step, a * left + b * top + x], [c * step, d * step, c * left + d * top + y]])
    return Crop(pixels=_warp(reduced, to_crop, size), matrix=matrix)


def _window(image: Image, matrix: FloatArray, size: int) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 of the part of an image that a crop shows, with a margin, clipped to the image."""
    (a, b, x), (c, d, y) = invert_affine(matrix).tolist()
    xs = [x, x + a * size, x + b * size, x + (a + b) * size]
    ys = [y, y + c * size, y + d * size, y + (c + d) * size]
    return (
        max(math.floor(min(xs)) - 2, 0),
        max(math.floor(min(ys)) - 2, 0),
        min(math.ceil(max(xs)) + 3, image.shape[1]),
        min(math.ceil(max(ys)) + 3, image.shape[0]),
    )


def _warp(image: npt.NDArray[Any], matrix: FloatArray, size: int) -> Image:
    warped = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
    return np.asarray(warped, dtype=np.uint8)


def alignment_matrix(landmarks: FloatArray, *, scale: float, size: int) -> FloatArray:
    """Return the affine map (2, 3) from image px to an aligned crop.

    The frontal mean face is fitted to the landmarks by a similarity in the least-squares sense (Umeyama, PAMI 1991).

    Args:
        landmarks: Landmarks (68, ≥ 2) in image px.
        scale: Side of the crop in outer eye distances of the fitted face.
        size: Side of the crop, px.
    """
    seen = landmarks[_INNER, 0] + 1j * landmarks[_INNER, 1]
    mean_face = CANONICAL[_INNER, 0] + 1j * CANONICAL[_INNER, 1]
    centred = seen - seen.mean()
    # The similarity from picture to mean face, as a complex factor: rotation and zoom in one.
    factor = (centred.conj() @ (mean_face - mean_face.mean())) / (centred.conj() @ centred)
    zoom = factor * size / scale
    eyes = complex(0.5 * size, EYE_HEIGHT * size) - complex(0.5, 0.5)  # centre of a pixel = its index
    shift = eyes + (mean_face.mean() - factor * seen.mean()) * size / scale
    return np.array([[zoom.real, -zoom.imag, shift.real], [zoom.imag, zoom.real, shift.imag]])
