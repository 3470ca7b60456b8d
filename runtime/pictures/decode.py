"""Decodes picture files with OpenCV or Pillow: every frame, upright, as 8-bit BGR."""

from __future__ import annotations

import contextlib
import io
import itertools
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..file_kinds import HEAD_BYTES, PICTURES, FileKind, kind_of
from ..values import GREY, Image
from .native_messages import native_messages
from .structure import find_damage, frame_count, is_cmyk, is_padding, is_premultiplied, is_raw, orientation

AT_ONCE = 16
"""Frames of an animation to decode per call, which bounds memory; OpenCV decodes all earlier ones again."""
DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG", "libpng error")
"""Beginnings of libjpeg's and libpng's messages about damaged pixels."""
WRITERS = {
    FileKind.AVIF: ".avif",
    FileKind.HEIC: ".heic",
    FileKind.GIF: ".gif",
    FileKind.JPEG_2000: ".jp2",
    FileKind.JPEG_XL: ".jxl",
}
"""Formats that not every OpenCV reads, with a suffix; an OpenCV that reads them also writes them."""
PILLOW_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, RuntimeError),
    *(ArithmeticError, LookupError, TypeError, AttributeError, struct.error),
)
"""Raised by Pillow's decoders for damaged files."""
TURNS: dict[int, tuple[int | None, int | None]] = {
    2: (1, None),
    3: (None, cv2.ROTATE_180),
    4: (0, None),
    5: (1, cv2.ROTATE_90_COUNTERCLOCKWISE),
    6: (None, cv2.ROTATE_90_CLOCKWISE),
    7: (1, cv2.ROTATE_90_CLOCKWISE),
    8: (None, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""EXIF orientation: axis of the mirror for `cv2.flip`, then the turn for `cv2.rotate`."""


@dataclass(frozen=True, slots=True)
class PictureFrame:
    """One picture of a file.

    Attributes:
        pixels: Pixels (h, w, 3), uint8 BGR, upright; transparent ones are composed over grey.
        index: Number of the frame or page from 0; None if the file has one only.
        duration_ms: Display time of the frame in an animation; None if unknown.
    """

    pixels: Image
    index: int | None = None
    duration_ms: float | None = None


def decode_frames(data: bytes, *, name: str) -> Iterator[PictureFrame]:
    """Decode the frames of an animation, the pages of a TIFF file, or the one picture of any other file.

    Args:
        data: Content of the file.
        name: Name of the picture in errors.

    Raises:
        InputError: The data are not a picture, damaged, or in a format that cannot be decoded here. Frames before a
            damaged one are yielded first.
    """
    kind = kind_of(data[:HEAD_BYTES])
    if kind not in PICTURES:
        raise InputError(f"{name} is not a picture: it holds {kind.value}")
    if kind is FileKind.RAW or (kind is FileKind.TIFF and is_raw(data)):
        raise InputError(f"{name} holds {FileKind.RAW.value}; develop it, or export it as a JPEG, first")
    if (damage := find_damage(data, kind)) is not None:
        raise InputError(f"{name} is damaged: {damage}")
    count = frame_count(data, kind)
    if count is not None and count < 2:
        one = _decode(data, kind, name) if _opencv_reads(kind) else next(_pillow_frames(data, kind, name)).pixels
        yield PictureFrame(one)
        return
    if kind is FileKind.TIFF:
        frames = _tiff_pages(data, count or 0, name)
    elif hasattr(cv2, "imdecodeanimation") and _opencv_reads(kind):
        frames = _animation(data, name)
    else:
        frames = _pillow_frames(data, kind, name)
    yield from _numbered(frames, count, name)


def _numbered(frames: Iterator[PictureFrame], count: int | None, name: str) -> Iterator[PictureFrame]:
    """Number the frames if there are several; raise InputError after the last if there should be more."""
    first = list(itertools.islice(frames, 2))
    if len(first) == 1 and count is None:
        yield PictureFrame(first[0].pixels)
        return
    index = -1
    for index, frame in enumerate(itertools.chain(first, frames)):
        yield PictureFrame(frame.pixels, index, frame.duration_ms)
    if index + 1 < (count or 1):
        readable = "none of its frames" if count is None else f"{index + 1} of its {count} frames"
        raise InputError(f"{name} is damaged: {readable} can be decoded")


def _opencv_reads(kind: FileKind) -> bool:
    return kind not in WRITERS or cv2.haveImageWriter(WRITERS[kind])


@contextlib.contextmanager
def _opencv(name: str) -> Iterator[list[str]]:
    """Collect what libraries print while OpenCV decodes a picture, and turn its errors into `InputError`."""
    with native_messages() as messages:
        try:
            yield messages
        except cv2.error as error:
            raise InputError(f"{name} cannot be read (OpenCV: {error.err})") from error


def _decode(data: bytes, kind: FileKind, name: str) -> Image:
    # OpenCV turns JPEG pictures upright unless asked for alpha; for the formats not named here it reads no alpha.
    alpha = kind in (FileKind.PNG, FileKind.WEBP, FileKind.AVIF) or (kind is FileKind.TIFF and not is_cmyk(data))
    flags = cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_COLOR
    with _opencv(name) as messages:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    said = [text for text in messages if text.startswith(DAMAGE) and not is_padding(data, text)]
    if said:
        raise InputError(f"{name} is damaged: {said[0]}")
    if pixels is None:
        raise InputError(f"{name} is damaged, or {kind.value} of a variant that OpenCV {cv2.__version__} cannot decode")
    multiplied = kind is FileKind.TIFF and is_premultiplied(data, 8 * pixels.itemsize)
    return turned(to_bgr(pixels, premultiplied=multiplied), orientation(data, kind))


def _animation(data: bytes, name: str) -> Iterator[PictureFrame]:
    encoded = np.frombuffer(data, dtype=np.uint8)
    turn = orientation(data, kind_of(data[:HEAD_BYTES]))
    for start in itertools.count(0, AT_ONCE):
        with _opencv(name):
            done, animation = cv2.imdecodeanimation(encoded, start=start, count=AT_ONCE)
        frames = animation.frames if done else ()
        for pixels, duration in zip(frames, animation.durations, strict=False):
            yield PictureFrame(turned(to_bgr(pixels), turn), duration_ms=float(duration))
        if len(frames) < AT_ONCE:
            return


def _tiff_pages(data: bytes, count: int, name: str) -> Iterator[PictureFrame]:
    encoded = np.frombuffer(data, dtype=np.uint8)
    flags = cv2.IMREAD_COLOR if is_cmyk(data) else cv2.IMREAD_UNCHANGED
    one_by_one = "range" in (cv2.imdecodemulti.__doc__ or "")  # not before OpenCV 4.10
    for page in range(count if one_by_one else 1):
        part: dict[str, Any] = {"range": (page, page + 1)} if one_by_one else {}
        with _opencv(name):
            done, pages = cv2.imdecodemulti(encoded, flags, **part)
        if not done:
            return
        for pixels in pages[:count]:
            yield PictureFrame(to_bgr(pixels, premultiplied=is_premultiplied(data, 8 * pixels.itemsize)))


def _pillow_frames(data: bytes, kind: FileKind, name: str) -> Iterator[PictureFrame]:
    package = "pillow-jxl-plugin" if kind is FileKind.JPEG_XL else "pillow-heif"  # either brings Pillow too
    try:
        import PIL.Image
        import PIL.ImageOps

        if kind is FileKind.JPEG_XL:
            import pillow_jxl  # noqa: F401  # pyright: ignore[reportMissingImports]
        if kind is FileKind.HEIC:
            import pillow_heif

            pillow_heif.register_heif_opener()
    except ModuleNotFoundError:
        raise InputError(
            f"{name} holds {kind.value}, which OpenCV {cv2.__version__} cannot read; run: pip install {package}"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # a camera has more pixels than that
            opened = PIL.Image.open(io.BytesIO(data))
        with opened as file:
            for index in range(getattr(file, "n_frames", 1)):
                file.seek(index)
                upright = PIL.ImageOps.exif_transpose(file)
                rgba = np.asarray(upright.convert("RGBA"))
                yield PictureFrame(to_bgr(rgba[..., [2, 1, 0, 3]]), duration_ms=file.info.get("duration"))
    except (*PILLOW_ERRORS, PIL.Image.DecompressionBombError) as error:
        unknown = isinstance(error, PIL.UnidentifiedImageError)
        reason = "Pillow cannot decode it" if unknown else " ".join(str(error).split())
        raise InputError(f"{name} is damaged: {reason}") from error


def to_bgr(pixels: npt.NDArray[Any], *, premultiplied: bool = False) -> Image:
    """Convert grey (h, w), BGR (h, w, 3) or BGRA (h, w, 4) of any depth to BGR (h, w, 3) uint8, composed over grey.

    Args:
        pixels: The picture.
        premultiplied: Whether the colours are already multiplied by alpha.
    """
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        scale = 255 if pixels.size and np.nanmax(pixels) <= 1 else 1  # floats are from 0 to 1, or as in 8 bits
        pixels = np.clip(np.nan_to_num(pixels * scale), 0, 255).astype(np.uint8)
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.uint16)
        colour = np.minimum(pixels[..., :3], alpha) * np.uint16(255) if premultiplied else pixels[..., :3] * alpha
        mixed = colour + np.array(GREY, np.uint16) * (255 - alpha)
        pixels = ((mixed + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def turned(pixels: Image, orientation: int) -> Image:
    """Turn and mirror a picture (h, w, 3) upright according to its EXIF orientation, 1 to 8."""
    mirror, turn = TURNS.get(orientation, (None, None))
    if mirror is not None:
        pixels = np.asarray(cv2.flip(pixels, mirror), dtype=np.uint8)
    return pixels if turn is None else np.asarray(cv2.rotate(pixels, turn), dtype=np.uint8)
