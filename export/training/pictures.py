"""Read the pictures of a training."""

from __future__ import annotations

from pathlib import Path

from ...bench.data.aligned_crops import squared
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


def read_aligned_crop(path: Path) -> Image:
    """Read an aligned face crop, extended to a square (s, s, 3), uint8 BGR; raises as `read_training_image`."""
    return squared(read_training_image(path))
