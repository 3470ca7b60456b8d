"""Find, read and write image files, with errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from .errors import InputError, OutputError
from .outputs import write_atomic
from .values import Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def read_image(path: Path) -> Image:
    """Read a picture as (h, w, 3) uint8 BGR.

    Raises:
        InputError: The file is missing, empty, damaged or not a picture.
    """
    return decode_image(read_file(path), name=str(path))


def read_file(path: Path) -> bytes:
    """Read the bytes of a regular file; pipes and devices are rejected, as they may never end.

    Raises:
        InputError: The file is missing or cannot be read.
    """
    if not path.is_file():
        raise InputError(f"no image {path}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error})") from error


def decode_image(data: bytes, *, name: str) -> Image:
    """Decode an image file as (h, w, 3) uint8 BGR.

    Args:
        data: Content of the file.
        name: Name of the picture in errors.

    Raises:
        InputError: The data is empty, damaged or not a picture.
    """
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        raise InputError(f"{name} cannot be read (OpenCV: {error.err})") from error
    if pixels is None:
        raise InputError(f"{name} is not an image that OpenCV can read")
    return np.asarray(pixels, dtype=np.uint8)


def write_image(path: Path, pixels: Image) -> None:
    """Write a picture in the format of the suffix.

    Args:
        path: File to write.
        pixels: Picture (h, w, 3), uint8 BGR.

    Raises:
        OutputError: The suffix is unknown, or the file cannot be written.
    """
    write_file(path, encode_image(pixels, suffix=path.suffix))


def encode_image(pixels: Image, *, suffix: str) -> bytes:
    """Encode a picture as the content of an image file.

    Args:
        pixels: Picture (h, w, 3), uint8 BGR.
        suffix: Suffix that selects the format, such as ``.png``.

    Raises:
        OutputError: The suffix is unknown.
    """
    try:
        done, data = cv2.imencode(suffix, pixels)
    except cv2.error as error:
        raise OutputError(f"OpenCV cannot encode {suffix!r} ({error.err})") from error
    if not done:
        raise OutputError(f"OpenCV cannot encode {suffix!r}")
    return data.tobytes()


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    try:
        write_atomic(path, data)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror})") from error


def find_images(folder: Path) -> list[Path]:
    """List the files with an image suffix below a folder, sorted; broken links are included, and fail when read."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir())


def expand(inputs: Sequence[Path], failures: list[str]) -> Iterator[Path]:
    """Replace each folder by the pictures below it.

    Args:
        inputs: Files and folders.
        failures: Receives a message for each folder without pictures.
    """
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
        InputError: There are none.
    """
    found = find_images(folder)
    if not found:
        raise InputError(f"{folder} holds no pictures")
    return found
