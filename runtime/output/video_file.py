"""Writes frames to a video file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from ..atomic_file import AtomicFile
from ..errors import OutputError
from ..output_paths import check_writable
from ..values import Faces, Frame, Image, size_of
from ..wording import counted
from .encoders import Encoder, check_video_path, choose_encoder

RESERVE_BYTES = 32 << 20
"""Free disk space to leave, because a video is unreadable until its index has been written at the end."""


class VideoSink:
    """Video file, with a temporary name until it is closed.

    Frames of odd width or height are padded by repeating the last column or row, because most formats store colours at
    half the resolution. Frames that differ in size from the first are fitted into it, with black borders.

    Args:
        path: File to write; the suffix selects the format.
        fps: Nominal frame rate; None if unknown.

    Raises:
        OutputError: The suffix is unknown or the file cannot be written.
    """

    needs_picture = True

    def __init__(self, path: Path, *, fps: float | None) -> None:
        check_writable(path)
        check_video_path(path)
        self._path = path
        self._fps = 30.0 if fps is None else fps
        self._encoder_type = choose_encoder(path)
        self._opened: tuple[AtomicFile, Encoder] | None = None
        self._size = (0, 0)
        self._start_ns = 0
        self._taken = 0
        self._failed = False

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Append one picture, at the time of its frame."""
        picture = _even(picture)
        self._failed = True  # unless this write comes to its end
        with self._errors_named():
            if self._opened is None:
                self._size = size_of(picture)
                self._start_ns = frame.timestamp_ns
                self._opened = self._open()
            file, encoder = self._opened
            if size_of(picture) != self._size:
                picture = _letterboxed(picture, self._size)
            encoder.append(picture, frame.timestamp_ns - self._start_ns)
            if self._taken % max(1, round(self._fps)) == 0:  # about once per second
                self._check_room(file.temporary.parent)
        self._taken += 1
        self._failed = False
        return True

    def close(self) -> None:
        """Complete the file and rename it; one that cannot be completed is kept if it plays up to there.

        If it does not play after a failed write, that write has said why.
        """
        if self._opened is None:
            return
        (file, encoder), self._opened = self._opened, None
        with self._errors_named():
            try:
                encoder.close()
            except OutputError as error:
                if encoder.plays():
                    file.commit()
                    raise OutputError(f"{error}; it was kept up to there") from error
                file.discard()
                if not self._failed:
                    raise
            else:
                file.commit()

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Name the file in errors, rather than the temporary one."""
        try:
            yield
        except OutputError as error:
            raise OutputError(f"cannot write {self._path} ({error})") from error
        except OSError as error:
            raise OutputError(f"cannot write {self._path} ({error.strerror})") from error

    def _check_room(self, folder: Path) -> None:
        free = shutil.disk_usage(folder).free
        if free < RESERVE_BYTES:
            frames = counted(self._taken + 1, "frame")
            raise OutputError(f"the disk is full, {free / 1e6:.0f} MB left; the video ends after {frames}")

    def _open(self) -> tuple[AtomicFile, Encoder]:
        file = AtomicFile(self._path)
        file.handle.close()  # the encoder opens it by name
        try:
            return file, self._encoder_type(file.temporary, self._size, fps=self._fps)
        except OutputError:
            file.discard()
            raise


def _letterboxed(picture: Image, size: tuple[int, int]) -> Image:
    """Scale a picture to fit into `size` (width, height) in px, and centre it on black."""
    width, height = size_of(picture)
    scale = min(size[0] / width, size[1] / height)
    fitted = (max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = (size[0] - fitted[0]) // 2, (size[1] - fitted[1]) // 2
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    canvas[top : top + fitted[1], left : left + fitted[0]] = cv2.resize(picture, fitted)
    return canvas


def _even(picture: Image) -> Image:
    """Pad a picture to an even width and height."""
    width, height = size_of(picture)
    if width % 2 == 0 and height % 2 == 0:
        return picture
    padded = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return np.asarray(padded, dtype=np.uint8)
