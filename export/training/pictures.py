"""Read the pictures of a training."""

from __future__ import annotations

from pathlib import Path

from ...bench.data.aligned_crops import squared
from ...bench.data.picture_size import read_size
from ...runtime.errors import InputError
from ...runtime.pictures.images import read_image
from ...runtime.values import Image


def read_training_image(path: Path) -> Image:
    """Read a picture (h, w, 3), uint8 BGR; one that cannot be read ends a training, as its results would be others.

    Raises:
        InputError: It cannot be read; the message names it and says what to do.
    """
    try:
        return read_image(path)
    except InputError as error:
        raise InputError(f"{error}; repair or replace the picture, or remove it from the folder") from error


def picture_size(path: Path) -> tuple[int, int]:
    """Return the width and height in px of a picture as `read_training_image` reads it, and raise the same errors."""
    size = read_size(path)
    return size.upright if size is not None else read_training_image(path).shape[1::-1]


def read_aligned_crop(path: Path) -> Image:
    """Read an aligned face crop, extended to a square (s, s, 3), uint8 BGR; raises as `read_training_image`."""
    return squared(read_training_image(path))
