"""Reads raw BGR frames from standard input: source ``-``."""

from __future__ import annotations

import io
import select
import sys
import threading

import numpy as np

from ..errors import InputError
from .sources import OpenedSource, RawFrame, SourceInfo, SourceOptions


class RawSource:
    """Source that reads raw BGR frames from a byte stream: height × width × 3 bytes each, without separators.

    Args:
        stream: Unbuffered stream.
        size: (width, height) in px.
        fps: Rate for the timestamps; None: use the time of arrival.
    """

    def __init__(
        self, stream: io.RawIOBase | io.BufferedIOBase, *, size: tuple[int, int], fps: float | None = None
    ) -> None:
        self._stream = stream
        self._shape = (size[1], size[0], 3)
        self._fps = fps
        self._index = 0
        self._closed = threading.Event()

    def read(self) -> RawFrame | None:
        """See `Source`.

        Raises:
            InputError: The stream ended within a frame.
        """
        pixels = np.empty(self._shape, dtype=np.uint8)
        room = pixels.reshape(-1).data
        filled = 0
        while filled < len(room):
            if not self._wait_readable():
                return None
            count = self._stream.readinto(room[filled:])
            if count == 0:
                break
            filled += count or 0
        if filled == 0:
            return None
        if filled < len(room):
            height, width, _ = self._shape
            raise InputError(
                f"standard input ended within frame {self._index}: {filled} of the {len(room)} bytes of "
                f"{width}x{height} BGR; is the size right, and is the format bgr24 "
                "(ffmpeg -i … -f rawvideo -pix_fmt bgr24 -)?"
            )
        stamp = None if self._fps is None else round(self._index * 1e9 / self._fps)
        self._index += 1
        return pixels, stamp

    def close(self) -> None:
        """End the source; the stream stays open."""
        self._closed.set()

    def _wait_readable(self) -> bool:
        # Poll, so that a silent producer does not block `close`.
        while not self._closed.is_set():
            try:
                ready, _, _ = select.select([self._stream], [], [], 0.05)
            except (OSError, ValueError):
                return True  # select does not support the stream (in memory, or on Windows): read blocks instead
            if ready:
                return True
        return False


def open_stdin(source: str, options: SourceOptions) -> OpenedSource:
    """Open standard input as raw BGR frames.

    Raises:
        InputError: The size is missing, or standard input is a terminal.
    """
    size, fps = options.size, options.fps
    if size is None:
        raise InputError(f"source {source} reads raw BGR frames and needs their size, such as --size 640x480")
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            f"source {source} reads raw BGR frames from a pipe: ffmpeg -i … -f rawvideo -pix_fmt bgr24 - | mien …"
        )
    # Unbuffered, because select does not see buffered data.
    stream = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    return OpenedSource(RawSource(stream, size=size, fps=fps), SourceInfo("standard input", size=size, fps=fps))
