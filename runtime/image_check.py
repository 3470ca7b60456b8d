"""Checks pictures and frames that callers pass."""

from __future__ import annotations

import numpy as np

from .errors import InputError
from .values import Frame


def check_image(image: object) -> None:
    """Raise InputError unless `image` is (h, w, 3) uint8 with pixels in it."""
    if not isinstance(image, np.ndarray):
        hint = "; did cv2.imread find the file?" if image is None else ""
        found = "None" if image is None else type(image).__name__
        raise InputError(f"expected a picture (h, w, 3) uint8 BGR, found {found}{hint}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(f"expected a picture (h, w, 3) uint8 BGR, found {image.dtype} {image.shape}")


def check_frame(frame: object) -> None:
    """Raise InputError unless `frame` is a `Frame` with such a picture."""
    if not isinstance(frame, Frame):
        found = type(frame).__name__
        raise InputError(f"expected frames of open_capture or Frame(pixels, timestamp_ns, index), found {found}")
    check_image(frame.pixels)
