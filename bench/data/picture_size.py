"""Size and EXIF orientation of a picture; JPEG files need not be decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...runtime.errors import InputError
from ...runtime.pictures.images import read_image
from ...runtime.pictures.structure import exif_orientation
from ...runtime.values import FloatArray

HEADER_BYTES = 1 << 18
"""Number of bytes to search for the size, which may follow a thumbnail and colour profiles."""
STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class PictureSize:
    """Size of a picture.

    Attributes:
        stored: Width and height in px as stored in the file.
        orientation: EXIF orientation, 1 to 8; from 5 on, width and height are swapped for display.
    """

    stored: tuple[int, int]
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height in px as displayed, and as read by `read_image`."""
        width, height = self.stored
        return (width, height) if self.orientation < 5 else (height, width)

    @property
    def is_mirrored(self) -> bool:
        """True if the picture is mirrored for display."""
        return self.orientation in (2, 4, 5, 7)

    def turn(self, points: FloatArray) -> FloatArray:
        """Map points (n, 2) in px from the picture as stored to the picture as displayed."""
        x, y = points.T
        right, bottom = self.stored[0] - 1 - x, self.stored[1] - 1 - y
        shown = {
            2: (right, y),
            3: (right, bottom),
            4: (x, bottom),
            5: (y, x),
            6: (bottom, x),
            7: (bottom, right),
            8: (y, right),
        }
        return np.stack(shown.get(self.orientation, (x, y)), axis=1)


def read_size(path: Path) -> PictureSize | None:
    """Read a picture's size; return None if the picture cannot be read.

    Formats other than JPEG are decoded, which already applies the orientation.
    """
    try:
        with path.open("rb") as file:
            found = _jpeg_size(file.read(HEADER_BYTES))
        if found is not None:
            return found
        height, width = read_image(path).shape[:2]
    except (OSError, InputError):
        return None
    return PictureSize((width, height))


def _jpeg_size(data: bytes) -> PictureSize | None:
    """Read the segments of a JPEG file (ITU-T T.81, annex B) up to the start of frame."""
    if not data.startswith(b"\xff\xd8"):
        return None
    position, orientation = 2, 1
    while position + 9 < len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker in STARTS_OF_FRAME:
            height, width = (int.from_bytes(data[position + at : position + at + 2], "big") for at in (5, 7))
            return PictureSize((width, height), orientation)
        if marker == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
            orientation = exif_orientation(data[position + 10 : position + 2 + length])
        position += 2 + length if marker != 0xFF else 1  # 0xFF before a marker is padding
    return None
