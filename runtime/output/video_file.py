"""Write frames to a video file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np

from ..errors import OutputError
from ..outputs import check_writable, temp_path
from ..values import Faces, Frame, Image, size_of

MAX_GAP_S = 5.0
"""Longer gaps, as while a camera was lost, are not filled with repeated frames."""
RESERVE_BYTES = 32 << 20
"""Free disk space to leave, because a video is unreadable until its index has been written at the end."""
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "FFV1", ".webm": "VP80"}


class VideoSink:
    """Write a video file, under a temporary name until it is closed.

    A frame is repeated until the timestamp of the next, so a recording with dropped frames plays at the original speed.
    Frames that differ in size from the first are resized to it.

    Args:
        path: File to write; the suffix selects the codec.
        fps: Frame rate of the file.

    Raises:
        OutputError: The suffix is unknown or the file cannot be written.
    """

    needs_picture = True

    def __init__(self, path: Path, *, fps: float) -> None:
        if path.suffix.lower() not in CODECS:
            raise OutputError(f"{path}: expected one of {', '.join(CODECS)}, found {path.suffix!r}")
        check_writable(path)
        self._path = path
        self._target = path.resolve()  # a link stays one: what it points to is replaced
        self._partial = self._target.with_name(temp_path(path).name)
        self._fps = fps if fps > 0 else 30.0
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._start_ns = 0
        self._written = 0
        self._last: Image | None = None

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Append one picture, after repeating the previous one up to its timestamp."""
        if self._writer is None:
            self._size = size_of(picture)
            self._start_ns = frame.timestamp_ns
            self._writer = self._open()
        if size_of(picture) != self._size:
            picture = np.asarray(cv2.resize(picture, self._size), dtype=np.uint8)
        missing = self._due(frame) - self._written
        if missing > MAX_GAP_S * self._fps:
            self._start_ns += round(missing * 1e9 / self._fps)  # cut the gap out
            missing = 0
        if self._last is not None:
            for _ in range(missing):
                self._append(self._writer, self._last)
        self._append(self._writer, picture)
        self._last = picture
        if self._written % max(1, round(self._fps)) == 1:  # once per second; OpenCV does not report a full disk
            self._check_room()
        return True

    def close(self) -> None:
        """Complete the file and rename it."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if not _is_playable(self._partial):
            raise OutputError(f"cannot write {self._path}: the file does not play; see {self._partial}")
        try:
            os.replace(self._partial, self._target)
        except OSError as error:
            raise OutputError(f"cannot write {self._path} ({error.strerror})") from error

    def _due(self, frame: Frame) -> int:
        """Compute the number of frames that should precede this one."""
        return round((frame.timestamp_ns - self._start_ns) * self._fps / 1e9)

    def _check_room(self) -> None:
        free = shutil.disk_usage(self._partial.parent).free
        if free < RESERVE_BYTES:
            raise OutputError(
                f"the disk of {self._path} is full ({free / 1e6:.0f} MB left); the video ends after "
                f"{self._written} frames"
            )

    def _open(self) -> cv2.VideoWriter:
        codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._partial), codec, self._fps, self._size)
        if not writer.isOpened():
            self._partial.unlink(missing_ok=True)
            raise OutputError(f"OpenCV cannot write {self._path}; try another folder or .avi")
        return writer

    def _append(self, writer: cv2.VideoWriter, picture: Image) -> None:
        writer.write(picture)
        self._written += 1


def _is_playable(path: Path) -> bool:
    video = cv2.VideoCapture(str(path))
    try:
        return video.read()[0]
    finally:
        video.release()
