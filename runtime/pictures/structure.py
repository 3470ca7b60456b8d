"""Inspects picture files without decoding them: damage, orientation, number of frames."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Literal

from ..file_kinds import FileKind

END_MISSING = "its end is missing"
ORIENTATION = 274
PHOTOMETRIC = 262
CMYK = 5
EXTRA_SAMPLES = 338
ASSOCIATED, UNASSOCIATED = 1, 2
SUBFILE, REDUCED = 254, 1
WIDTHS = {1: 1, 3: 2, 4: 4}
"""Bytes of the whole numbers in a TIFF file, by the number of their type."""
DNG_VERSION = 50706
JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd8])", re.DOTALL)
"""Marker of JPEG with content, or of its end; the excluded ones stand alone or between pixels (ITU-T T.81, B.1.1.3)."""
JPEG_SCAN, JPEG_END = b"\xda", b"\xd9"
GIF_EXTENSION, GIF_FRAME, GIF_END = b"!", b",", b";"


def find_damage(data: bytes, kind: FileKind) -> str | None:
    """Describe damage that decoders may overlook, such as a missing end; return None for an intact file."""
    finders = {
        FileKind.JPEG: _jpeg_damage,
        FileKind.PNG: _png_damage,
        FileKind.WEBP: _webp_damage,
        FileKind.GIF: _gif_damage,
        FileKind.BMP: _bmp_damage,
    }
    find = finders.get(kind)
    return None if find is None else find(data)


def frame_count(data: bytes, kind: FileKind) -> int | None:
    """Return the number of frames or pages: 0 if it is not an animation, None if unknown."""
    if kind is FileKind.PNG:
        return next((int.from_bytes(body[:4], "big") for name, body, _ in _png_chunks(data) if name == b"acTL"), 0)
    if kind is FileKind.WEBP:
        return sum(name == b"ANMF" for name, _ in _riff_chunks(data))
    if kind is FileKind.TIFF:
        return sum(1 for _ in _tiff_pages(data))
    return None if kind is FileKind.GIF or (kind is FileKind.AVIF and b"avis" in data[8:64]) else 0


def orientation(data: bytes, kind: FileKind) -> int:
    """Return a picture's EXIF orientation, from 1 (upright) to 8.

    Only for formats whose pixels OpenCV returns as stored: PNG, WebP and AVIF.
    """
    if kind is FileKind.PNG:
        chunks: Iterator[bytes] = (body for name, body, _ in _png_chunks(data) if name == b"eXIf")
    elif kind is FileKind.WEBP:
        chunks = (body for name, body in _riff_chunks(data) if name == b"EXIF")
    elif kind is FileKind.AVIF:
        return _avif_orientation(data)
    else:
        return 1
    return exif_orientation(next(chunks, b"").removeprefix(b"Exif\0\0"))


def exif_orientation(exif: bytes) -> int:
    """Return the orientation in EXIF data, which has the format of a TIFF file (CIPA DC-008, 4.6); 1 without one."""
    turned = _tiff_tags(exif).get(ORIENTATION, 1)
    return turned if 1 <= turned <= 8 else 1


def is_raw(data: bytes) -> bool:
    """Check whether a TIFF file is a camera's raw picture (DNG, NEF, ARW), whose first page is mostly a thumbnail."""
    tags = _tiff_tags(data)
    return DNG_VERSION in tags or bool(tags.get(SUBFILE, 0) & REDUCED)


def is_cmyk(data: bytes) -> bool:
    """Check whether the four channels of a TIFF file are inks rather than colours and alpha."""
    return _tiff_tags(data).get(PHOTOMETRIC) == CMYK


def is_premultiplied(data: bytes, bits: int) -> bool:
    """Check whether the colours of a TIFF file with alpha are multiplied with it, by its writer or by libtiff."""
    extra = _tiff_tags(data).get(EXTRA_SAMPLES)
    return extra == ASSOCIATED or (extra == UNASSOCIATED and bits == 8)  # libtiff's own 8-bit conversion multiplies


def is_padding(data: bytes, message: str) -> bool:
    """Check whether the extraneous bytes that libjpeg reports are zeros before the end, which some cameras write."""
    found = re.search(r"(\d+) extraneous bytes before marker 0xd9", message)
    return found is not None and bytes(int(found[1])) + b"\xff\xd9" in data


def _jpeg_damage(data: bytes) -> str | None:
    """Follow the markers up to the first end; what is behind it, such as a phone's short video, does not matter."""
    scans, at = 0, 0
    while (found := JPEG_MARKER.search(data, at)) and found[1] != JPEG_END:
        scans += found[1] == JPEG_SCAN
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    if not scans:
        return "it has no picture data"
    return None if found else END_MISSING


def _png_damage(data: bytes) -> str | None:
    name = b""
    for name, body, checksum in _png_chunks(data):
        if checksum is None:
            return END_MISSING
        if zlib.crc32(name + body) != checksum and name[:1].isupper():  # others are optional
            return f"the checksum of its {name.decode('latin-1')} chunk is wrong"
    return None if name == b"IEND" else END_MISSING


def _webp_damage(data: bytes) -> str | None:
    return END_MISSING if int.from_bytes(data[4:8], "little") + 8 > len(data) + 1 else None


def _gif_damage(data: bytes) -> str | None:
    """Follow the blocks up to the end (GIF89a, appendix B); what is behind it does not matter."""
    at = 13 + _gif_table_bytes(data[10:11])
    while (block := data[at : at + 1]) in (GIF_EXTENSION, GIF_FRAME):
        at += 2 if block == GIF_EXTENSION else 11 + _gif_table_bytes(data[at + 9 : at + 10])
        while size := data[at : at + 1].strip(b"\0"):
            at += 1 + size[0]
        at += 1
    return None if block == GIF_END else END_MISSING


def _gif_table_bytes(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _bmp_damage(data: bytes) -> str | None:
    if len(data) < 54:
        return END_MISSING
    start, _, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    row_bytes = (abs(width) * bits + 31) // 32 * 4
    return END_MISSING if compression == 0 and start + row_bytes * abs(height) > len(data) else None


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int | None]]:
    """Yield name, content and checksum of each chunk; the checksum is None where the file ends before it."""
    at = 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, end = data[at + 4 : at + 8], at + 8 + length
        whole = end + 4 <= len(data)
        yield name, data[at + 8 : end], struct.unpack_from(">I", data, end)[0] if whole else None
        if name == b"IEND":
            return
        at = end + 4


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _tiff_tags(data: bytes) -> dict[int, int]:
    """Read the tags of the first page of a TIFF file, or of EXIF data, that hold whole numbers, the first of each."""
    return next(_tiff_pages(data), {})


def _tiff_pages(data: bytes) -> Iterator[dict[int, int]]:
    """Yield such tags of each page."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return
    form, count_form, entry_bytes = ("Q", "Q", 20) if b"+" in data[2:4] else ("I", "H", 12)
    width = struct.calcsize(f"={form}")
    seen = {0}
    try:
        (at,) = struct.unpack_from(order + form, data, width)
        while at not in seen:
            seen.add(at)
            (count,) = struct.unpack_from(order + count_form, data, at)
            entries = range(at + struct.calcsize(f"={count_form}"), len(data), entry_bytes)[:count]
            fields = [struct.unpack_from(f"{order}HH{form}4s", data, entry) for entry in entries]
            byteorder: Literal["little", "big"] = "little" if order == "<" else "big"
            yield {t: int.from_bytes(v[: WIDTHS[kind]], byteorder) for t, kind, _, v in fields if kind in WIDTHS}
            (at,) = struct.unpack_from(order + form, data, entries.start + count * entry_bytes)
    except (struct.error, OverflowError):  # the file ends before the page, or is too short for its 64-bit offset
        yield {}


def _avif_orientation(data: bytes) -> int:
    """Combine the boxes ``irot`` (quarter turns anticlockwise), then ``imir`` (mirrored along an axis)."""
    header = data[: max(data.find(b"mdat"), 0) or len(data)]
    turned, mirrored = header.find(b"irot"), header.find(b"imir")
    angle = header[turned + 4] & 3 if 0 <= turned < len(header) - 4 else 0
    if not 0 <= mirrored < len(header) - 4:
        return (1, 8, 3, 6)[angle]
    upside_down = header[mirrored + 4] & 1 == 0
    return (4, 5, 2, 7)[angle] if upside_down else (2, 7, 4, 5)[angle]
