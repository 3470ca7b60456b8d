"""Write frames to a video file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np

from mien.runtime.errors import OutputError
from mien.runtime.files import check_writable
from mien.runtime.values import Faces, Frame, Image, size_of

MAX_GAP_S = 5.0
"""A longer gap, such as a lost camera's, is not filled."""


RESERVE_BYTES = 32 << 20
"""Room that must be left on the disk: a video is whole only once its index is behind the pictures."""


CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "FFV1", ".webm": "VP80"}


class VideoSink:
    """A video file; the codec follows the suffix. It bears a temporary name until it is closed.

    A frame is repeated until the next one's timestamp: a camera whose frames were dropped plays at its own pace.
    Frames of another size than the first are fitted to it: a video has one size.
    """

    wants_picture = True

    def __init__(self, path: Path, *, fps: float) -> None:
        if path.suffix.lower() not in CODECS:
            raise OutputError(f"{path}: wanted one of {', '.join(CODECS)}, found {path.suffix!r}")
        check_writable(path)
        self._path = path
        self._partial = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._fps = fps if fps > 0 else 30.0
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._start_ns = 0
        self._written = 0
        self._last: Image | None = None

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Append one picture, after repeating the last one until its time."""
        if self._writer is None:
            self._size = size_of(picture)
            self._start_ns = frame.timestamp_ns
            self._writer = self._open()
        if size_of(picture) != self._size:
            picture = np.asarray(cv2.resize(picture, self._size), dtype=np.uint8)
        missing = self._due(frame) - self._written
        if missing > MAX_GAP_S * self._fps:
            self._start_ns += round(missing * 1e9 / self._fps)  # the video goes on as if the gap had not been
            missing = 0
        if self._last is not None:
            for _ in range(missing):
                self._append(self._writer, self._last)
        self._append(self._writer, picture)
        self._last = picture
        if self._written % max(1, round(self._fps)) == 1:  # each second; OpenCV does not tell of a full disk
            self._check_room()
        return True

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if not _plays(self._partial):
            raise OutputError(f"cannot write {self._path}: what was written does not play; see {self._partial}")
        try:
            os.replace(self._partial, self._path)
        except OSError as error:
            raise OutputError(f"cannot write {self._path} ({error.strerror})") from error

    def _due(self, frame: Frame) -> int:
        """How many frames should stand before this one."""
        return round((frame.timestamp_ns - self._start_ns) * self._fps / 1e9)

    def _check_room(self) -> None:
        free = shutil.disk_usage(self._partial.parent).free
        if free < RESERVE_BYTES:
            raise OutputError(
                f"the disk of {self._path} is full ({free / 1e6:.0f} MB left); the video ends here, after "
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


def _plays(path: Path) -> bool:
    video = cv2.VideoCapture(str(path))
    try:
        return video.read()[0]
    finally:
        video.release()
