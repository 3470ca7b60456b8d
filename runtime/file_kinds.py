"""Recognizes the content of files by their first bytes, whatever their name."""

from __future__ import annotations

import os
import re
import stat
from enum import Enum
from pathlib import Path

from .errors import InputError
from .near_names import describe_missing

HEAD_BYTES = 1024


class FileKind(Enum):
    """Content of a file; the value completes the sentence "it holds …"."""

    JPEG = "a JPEG picture"
    PNG = "a PNG picture"
    WEBP = "a WebP picture"
    BMP = "a BMP picture"
    TIFF = "a TIFF picture"
    AVIF = "an AVIF picture"
    HEIC = "a HEIC picture"
    GIF = "a GIF picture"
    JPEG_2000 = "a JPEG 2000 picture"
    JPEG_XL = "a JPEG XL picture"
    RAW = "a camera's raw picture"
    PNM = "a PNM picture"
    VIDEO = "a video"
    TEXT = "text"
    HTML = "an HTML page"
    GIT_LFS_POINTER = "a Git LFS pointer instead of the file itself; run: git lfs pull"
    ONNX = "an ONNX model"
    CHECKPOINT = "a checkpoint or pickle"
    ARCHIVE = "a ZIP or another archive"
    PDF = "a PDF document"
    EMPTY = "nothing"
    UNKNOWN = "data of no known kind"


PICTURES = frozenset(kind for kind in FileKind if kind.value.endswith(" picture"))
MAYBE_VIDEO = frozenset({FileKind.VIDEO, FileKind.UNKNOWN})
"""Kinds to try as a video, since FFmpeg knows more containers than `kind_of`."""

_MAGIC = {
    b"\xff\xd8\xff": FileKind.JPEG,
    b"\x89PNG\r\n\x1a\n": FileKind.PNG,
    b"RIFF....WEBP": FileKind.WEBP,
    b"BM....\0\0\0\0": FileKind.BMP,
    b"II[*]\0.{4}CR|FUJIFILMCCD-RAW|IIU\0|IIR[OS]|MMOR|....ftypcrx": FileKind.RAW,
    b"II[*+]\0|MM\0[*+]": FileKind.TIFF,
    b"GIF8[79]a": FileKind.GIF,
    b"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51": FileKind.JPEG_2000,
    b"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n": FileKind.JPEG_XL,
    rb"P[1-6][\s#]": FileKind.PNM,
    b"RIFF....AVI |\x1a\x45\xdf\xa3|FLV\x01|OggS|\x30\x26\xb2\x75\x8e\x66|\\.RMF|YUV4MPEG2": FileKind.VIDEO,
    b"....(moov|mdat|wide|free|skip|pnot)": FileKind.VIDEO,  # QuickTime before it had brands
    b"\0\0\x01[\xba\xb3]|\0?\0\0\x01[\x67\x27\x40]|(G.{187}){3}G|(.{4}G.{187}){3}": FileKind.VIDEO,  # MPEG streams
    b"version https://git-lfs": FileKind.GIT_LFS_POINTER,
    rb"(\xef\xbb\xbf)?\s*(?i:<!doctype html|<html)": FileKind.HTML,
    b"PK\x03\x04.{26}[^/]*/(data\\.pkl|byteorder|\\.format_version|\\.data)|\x80[\x02-\x05]": FileKind.CHECKPOINT,
    b'.{8}\\{"': FileKind.CHECKPOINT,  # safetensors
    b"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|BZh": FileKind.ARCHIVE,
    b"%PDF-": FileKind.PDF,
    rb"\x08[\x01-\x1f][\x12\x1a\x22\x32\x3a\x42\x72]": FileKind.ONNX,  # ir_version, then another field of a ModelProto
}
_PATTERNS = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in _MAGIC.items()]
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def kind_of(head: bytes) -> FileKind:
    """Recognize the content of a file by its first `HEAD_BYTES` bytes, or by all bytes of a shorter file."""
    if not head:
        return FileKind.EMPTY
    for pattern, kind in _PATTERNS:
        if pattern.match(head):
            return kind
    if head[4:8] == b"ftyp":
        return _kind_of_brands(head)
    return FileKind.TEXT if _is_text(head) else FileKind.UNKNOWN


def kind_of_file(path: Path) -> FileKind:
    """Recognize the content of a file.

    Raises:
        InputError: There is no such file, it is a folder, pipe or device, or it cannot be read.
    """
    check_file(path)
    try:
        with path.open("rb") as file:
            return kind_of(file.read(HEAD_BYTES))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error


def check_video(path: Path) -> None:
    """Check that a file may be a video, since FFmpeg would decode even text as one.

    Raises:
        InputError: It holds something else, or cannot be read.
    """
    if (kind := kind_of_file(path)) not in MAYBE_VIDEO | {FileKind.GIF}:
        raise InputError(f"{path} is neither a picture nor a video: it holds {kind.value}")


def check_file(path: Path, wanted: str = "file") -> None:
    """Check that a path names a regular file; pipes and devices are rejected, as they may never end.

    Args:
        path: Any path, also one that is too long or holds a null byte.
        wanted: What the file should be, such as ``model``.

    Raises:
        InputError: It does not, or cannot be accessed.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - the path may be too long, or hold a null byte
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(describe_missing(path, wanted)) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder, expected a {wanted}")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is a pipe or a device, expected a {wanted}")


def is_folder(path: Path) -> bool:
    """Return whether a path names a folder, even if the path is too long or contains a null byte."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises on such names


def _kind_of_brands(head: bytes) -> FileKind:
    """Recognize an ISO media file by its major and compatible brands."""
    size = int.from_bytes(head[:4], "big")
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))}
    if brands & _AVIF_BRANDS:
        return FileKind.AVIF
    return FileKind.HEIC if brands & _HEIC_BRANDS else FileKind.VIDEO


def _is_text(head: bytes) -> bool:
    """Return whether a file is text in UTF-8, UTF-16 with a mark or an 8-bit encoding, without control characters."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    return not re.search(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]", head)
