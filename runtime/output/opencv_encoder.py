"""Writes video files of constant frame rate with OpenCV."""

from __future__ import annotations

import os
from pathlib import Path

import cv2

from ..errors import OutputError
from ..values import Image

CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".avi": "MJPG", ".mkv": "mp4v", ".webm": "VP80"}
MAX_GAP_S = 5.0
"""Longer gaps, as while a camera was lost, are not filled with repeated frames."""
MAX_FPS = 600.0
"""MPEG-4 part 2 counts time in at most 65,535 parts of a second; with two decimals, this rate fits."""


class OpenCvEncoder:
    """Encoder with a constant frame rate; see `Encoder`.

    Pictures are repeated or dropped so that the file plays at the original speed.

    Args:
        path: File to write; the suffix selects the codec.
        size: (width, height) in px.
        fps: Frame rate of the file, rounded to a rate that all codecs accept.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], *, fps: float) -> None:
        self._path = path
        self._fps = max(0.01, round(min(fps, MAX_FPS), 2))
        self._written = 0
        self._gap_frames = 0
        self._last: Image | None = None
        try:
            name = os.fsencode(path).decode("utf-8")
        except UnicodeDecodeError:
            # OpenCV would end the process.
            raise OutputError(f"OpenCV cannot write {path!a}, a name that is not UTF-8; choose another") from None
        codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix.lower()])
        self._writer = cv2.VideoWriter(name, codec, self._fps, size)
        if not self._writer.isOpened():
            raise OutputError("OpenCV cannot write it; try another folder or .avi")

    def append(self, picture: Image, time_ns: int) -> None:
        """See `Encoder`."""
        missing = round(time_ns * self._fps / 1e9) - self._gap_frames - self._written
        if missing > MAX_GAP_S * self._fps:
            self._gap_frames += missing
            missing = 0
        if self._last is not None:
            for _ in range(missing):
                self._write(self._last)
        if missing >= 0:
            self._write(picture)
        self._last = picture

    def close(self) -> None:
        """See `Encoder`; OpenCV reports no error, so the last frame is read back."""
        self._writer.release()
        if not self._holds(self._written - 1):
            raise OutputError("the disk has not taken all of it" if self.plays() else "the file does not play")

    def plays(self) -> bool:
        """See `Encoder`."""
        return self._holds(0)

    def _holds(self, index: int) -> bool:
        video = cv2.VideoCapture(str(self._path))
        try:
            video.set(cv2.CAP_PROP_POS_FRAMES, index)
            return round(video.get(cv2.CAP_PROP_POS_FRAMES)) == index and video.read()[0]
        finally:
            video.release()

    def _write(self, picture: Image) -> None:
        self._writer.write(picture)
        self._written += 1
