"""Image files: found, read and written with errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from mien.runtime.errors import InputError, OutputError
from mien.runtime.values import Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def read_image(path: Path) -> Image:
    """Read a picture as (h, w, 3) uint8 BGR.

    Raises:
        InputError: missing, empty, truncated beyond reading, or no picture.
    """
    return decode_image(read_file(path), name=str(path))


def read_file(path: Path) -> bytes:
    """Read a picture's file; pipes and devices, which may have no end, are left unopened.

    Raises:
        InputError: no such file, or it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"no image {path}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error})") from error


def decode_image(data: bytes, *, name: str) -> Image:
    """Decode a picture file's bytes as (h, w, 3) uint8 BGR; errors call it `name`.

    Raises:
        InputError: empty, truncated beyond reading, or no picture.
    """
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        raise InputError(f"{name} cannot be read (OpenCV: {error.err})") from error
    if pixels is None:
        raise InputError(f"{name} is not an image that OpenCV can read")
    return np.asarray(pixels, dtype=np.uint8)


def write_image(path: Path, pixels: Image) -> None:
    """Write a picture; its format follows the suffix.

    Raises:
        OutputError: an unknown suffix or a place that cannot be written.
    """
    write_file(path, encode_image(pixels, suffix=path.suffix))


def encode_image(pixels: Image, *, suffix: str) -> bytes:
    """Encode a picture (h, w, 3) uint8 BGR as a file with this suffix.

    Raises:
        OutputError: an unknown suffix.
    """
    try:
        done, data = cv2.imencode(suffix, pixels)
    except cv2.error as error:
        raise OutputError(f"OpenCV cannot encode {suffix!r} ({error.err})") from error
    if not done:
        raise OutputError(f"OpenCV cannot encode {suffix!r}")
    return data.tobytes()


def write_file(path: Path, data: bytes) -> None:
    """Write a file.

    Raises:
        OutputError: a place that cannot be written.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error})") from error


def find_images(folder: Path) -> list[Path]:
    """List what is named as a picture below a folder, sorted; who reads a broken link among it is told."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir())


def expand(inputs: Sequence[Path], failures: list[str]) -> Iterator[Path]:
    """Yield files as they are and folders as the pictures below them; a folder without any is noted in `failures`."""
    for path in inputs:
        if path.is_dir():
            files = find_images(path)
            if not files:
                failures.append(f"{path} holds no pictures")
            yield from files
        else:
            yield path


def pictures_in(folder: Path) -> list[Path]:
    """List the pictures below a folder.

    Raises:
        InputError: there are none.
    """
    found = find_images(folder)
    if not found:
        raise InputError(f"{folder} holds no pictures")
    return found
