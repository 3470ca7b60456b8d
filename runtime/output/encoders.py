"""Selects the encoder of a video file: PyAV, or OpenCV if PyAV is missing or unsuitable."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import OutputError
from ..values import Image
from .opencv_encoder import CODECS, OpenCvEncoder

if TYPE_CHECKING:
    from .av_encoder import AvEncoder

log = logging.getLogger("mien")

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")


class Encoder(Protocol):
    """Writer of one video file."""

    def append(self, picture: Image, time_ns: int) -> None:
        """Add a picture (h, w, 3) uint8 BGR, all of the same even size, to be shown from `time_ns`.

        Raises:
            OutputError: The picture cannot be written.
        """
        ...

    def close(self) -> None:
        """Complete the file.

        Raises:
            OutputError: The file cannot be completed.
        """
        ...

    def plays(self) -> bool:
        """Check whether the closed file, complete or not, can be read from its first picture on."""
        ...


def check_video_path(path: Path) -> None:
    """Raise OutputError if the suffix is not that of a video, or the path is one in which an encoder cannot seek."""
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{path}: expected one of {', '.join(SUFFIXES)}, found {path.suffix!r}")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is a pipe or a device, expected a file for the video")


def choose_encoder(path: Path) -> type[AvEncoder | OpenCvEncoder]:
    """Choose the class that writes a video, and warn of the limits of OpenCV's if PyAV is not installed.

    Args:
        path: File to write; the suffix selects the format.
    """
    suffix = path.suffix.lower()
    if suffix != ".avi":  # it stores a rate instead of times
        try:
            from .av_encoder import AvEncoder
        except ImportError:
            codec = "MPEG-4 part 2, which browsers do not play, " if CODECS[suffix] == "mp4v" else ""
            log.warning(
                "%s will be %sof constant frame rate; to keep the time of each frame: pip install av", path, codec
            )
        else:
            return AvEncoder
    return OpenCvEncoder
