"""Reads and writes image files, with errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from ..atomic_file import write_file
from ..errors import InputError, OutputError
from ..file_kinds import FileKind, check_file, kind_of_file
from ..values import Image
from .decode import PictureFrame, decode_frames

QUALITY = 92
"""Quality of JPEG and WebP, 0 to 100."""
_QUALITY_KEYS = {
    ".jpg": cv2.IMWRITE_JPEG_QUALITY,
    ".jpeg": cv2.IMWRITE_JPEG_QUALITY,
    ".webp": cv2.IMWRITE_WEBP_QUALITY,
}
"""OpenCV warns of a key that its encoder does not know."""


def read_image(path: Path) -> Image:
    """Read a picture, or the first frame of an animation, as (h, w, 3) uint8 BGR, upright.

    The format is recognized by content, whatever the file name. Transparent pixels become grey.

    Raises:
        InputError: The file is missing, empty, damaged, not a picture, or in a format that cannot be decoded here.
    """
    return decode_image(read_file(path), name=str(path))


def read_frames(path: Path) -> Iterator[PictureFrame]:
    """Read all frames of an animation, all pages of a TIFF file, or the one picture of any other file.

    Raises:
        InputError: See `read_image`; frames before a damaged one are yielded first.
    """
    return decode_frames(read_file(path), name=str(path))


def read_file(path: Path) -> bytes:
    """Read the bytes of a regular file; pipes and devices are rejected, as they may never end.

    Raises:
        InputError: The file is missing or cannot be read.
    """
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error


def decode_image(data: bytes, *, name: str) -> Image:
    """Decode an image file, or the first frame of an animation, as (h, w, 3) uint8 BGR, upright.

    Args:
        data: Content of the file.
        name: Name of the picture in errors.

    Raises:
        InputError: The data is empty, damaged, not a picture, or in a format that cannot be decoded here.
    """
    return next(decode_frames(data, name=name)).pixels


def write_image(path: Path, pixels: Image) -> None:
    """Write a picture in the format of the suffix.

    Args:
        path: File to write.
        pixels: Picture (h, w, 3), uint8 BGR.

    Raises:
        OutputError: The suffix is unknown, or the file cannot be written.
    """
    write_file(path, encode_image(pixels, suffix=path.suffix))


def encode_image(pixels: Image, *, suffix: str, quality: int = QUALITY) -> bytes:
    """Encode a picture as an image file.

    Args:
        pixels: Picture (h, w, 3), uint8 BGR.
        suffix: Suffix that selects the format, such as ``.png``.
        quality: Quality of JPEG and WebP, 0 to 100.

    Raises:
        OutputError: The suffix is unknown.
    """
    key = _QUALITY_KEYS.get(suffix.lower())
    try:
        done, data = cv2.imencode(suffix, pixels, [] if key is None else [key, quality])
    except cv2.error as error:
        raise OutputError(f"OpenCV cannot encode {suffix!r} ({error.err})") from error
    if not done:
        raise OutputError(f"OpenCV cannot encode {suffix!r}")
    return data.tobytes()


def derived_suffix(source: Path) -> str:
    """Return the suffix for a copy of a picture: JPEG and WebP stay, HEIC and AVIF become JPEG, all else PNG."""
    kind = kind_of_file(source)
    if kind is FileKind.JPEG and source.suffix.lower() in (".jpg", ".jpeg"):
        return source.suffix
    lossy = {FileKind.JPEG: ".jpg", FileKind.HEIC: ".jpg", FileKind.AVIF: ".jpg", FileKind.WEBP: ".webp"}
    return lossy.get(kind, ".png")
