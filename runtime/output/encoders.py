"""Selects the encoder of a video file: PyAV, or OpenCV if PyAV is missing or unsuitable."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from ..errors import OutputError
from ..values import Image

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


def open_encoder(path: Path, size: tuple[int, int], *, fps: float) -> Encoder:
    """Open a video file for writing.

    Args:
        path: File to write; the suffix selects the format.
        size: (width, height) in px, both even.
        fps: Nominal frame rate; constant in files written by OpenCV.

    Raises:
        OutputError: The file cannot be written.
    """
    from .opencv_encoder import OpenCvEncoder

    if path.suffix.lower() == ".avi":  # it stores a rate instead of times
        return OpenCvEncoder(path, size, fps=fps)
    try:
        from .av_encoder import AvEncoder
    except ImportError:
        return OpenCvEncoder(path, size, fps=fps)
    return AvEncoder(path, size, fps=fps)


def warn_of_plain_files(path: Path) -> None:
    """Warn of the limits of a file that OpenCV writes because PyAV is not installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        part_2 = path.suffix.lower() in (".mp4", ".mov")
        codec = "MPEG-4 part 2, which browsers do not play, " if part_2 else ""
        log.warning(
            "%s will be %sof constant frame rate; for H.264 with each frame at its time: pip install av", path, codec
        )
