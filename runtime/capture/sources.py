"""Where frames come from: one small protocol, and the sources that need no camera."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

import numpy as np

from mien.runtime.errors import InputError
from mien.runtime.images import IMAGE_SUFFIXES, read_image
from mien.runtime.values import Image

logger = logging.getLogger("mien")

NOMINAL_FPS = 30.0
"""Rate at which pictures without one are given timestamps."""
RawFrame = tuple[Image, "int | None"]
"""Pixels (h, w, 3) uint8 BGR and a timestamp in ns, or None to have it stamped when it arrives."""
Clock = Callable[[], int]
"""Monotonic time in ns."""


class Source(Protocol):
    """Anything that gives one picture after another. One thread reads, any thread may close."""

    def read(self) -> RawFrame | None:
        """Wait for the next picture; None when the source has ended, is lost or was closed."""
        ...

    def close(self) -> None:
        """Give back what the source holds, twice without harm; a read that is waiting then returns soon."""
        ...


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source once it is open.

    name: for people, without passwords. live: it goes on whether or not someone reads, and its timestamps are on
    the capture's clock. reconnectable: an end is a loss that opening again may mend. size: (width, height) px.
    fps: what it claims. frame_count: what a file claims; exact_count: and it cannot be an estimate. None where unknown.
    """

    name: str
    live: bool = False
    reconnectable: bool = False
    size: tuple[int, int] | None = None
    fps: float | None = None
    frame_count: int | None = None
    exact_count: bool = False


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source and what is known of it."""

    source: Source
    info: SourceInfo


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What is wished of a source; each takes what it can use. size: (width, height) px.

    The timeouts hold for network streams, the first also for GStreamer. OpenCV has its own else: 10 s for a picture
    from V4L2, 30 s from GStreamer.

    Raises:
        InputError: a value that is not above 0.
    """

    size: tuple[int, int] | None = None
    fps: float | None = None
    open_timeout_s: float = 5.0
    read_timeout_s: float = 5.0
    clock: Clock = time.monotonic_ns

    def __post_init__(self) -> None:
        numbers = [*(self.size or ()), self.open_timeout_s, self.read_timeout_s]
        if not all(number > 0 for number in [*numbers, 1 if self.fps is None else self.fps]):
            raise InputError(
                f"wanted size, rate and timeouts above 0, found {self.size}, {self.fps}, "
                f"{self.open_timeout_s} and {self.read_timeout_s}"
            )


class SourceKind(Enum):
    """What a source string names."""

    CAMERA = "camera"
    VIDEO = "video file"
    IMAGES = "image or folder"
    STREAM = "network stream"
    CSI = "CSI camera"
    GSTREAMER = "GStreamer pipeline"
    DEMO = "demo"
    STDIN = "standard input"


def source_kind(source: str) -> SourceKind:
    """Tell what `source` names; a file called ``demo`` or ``0`` is reached as ``./demo``, ``./0``.

    Raises:
        InputError: an empty string.
    """
    if not source:
        raise InputError("wanted a source, as 0, demo or a file, found an empty one")
    exact = {"demo": SourceKind.DEMO, "-": SourceKind.STDIN}
    if source in exact:
        return exact[source]
    patterns = {
        r"\d+|/dev/(video|v4l).*": SourceKind.CAMERA,
        r"csi://.*": SourceKind.CSI,
        r"gst:.*": SourceKind.GSTREAMER,
        r"[A-Za-z][A-Za-z0-9+.-]*://.*": SourceKind.STREAM,
    }
    for pattern, kind in patterns.items():
        if re.fullmatch(pattern, source, re.ASCII | re.DOTALL):
            return kind
    path = Path(source)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return SourceKind.IMAGES
    return SourceKind.VIDEO


class ImageSource:
    """Picture files, one frame each, 1/`fps` seconds apart."""

    def __init__(self, paths: Sequence[Path], *, fps: float = NOMINAL_FPS) -> None:
        self._paths = paths
        self._interval_ns = 1e9 / fps
        self._next = 0

    def read(self) -> RawFrame | None:
        """See `Source`."""
        while self._next < len(self._paths):
            index = self._next
            self._next += 1
            try:
                return read_image(self._paths[index]), round(index * self._interval_ns)
            except InputError as error:
                if len(self._paths) == 1:
                    raise
                logger.warning("skipped: %s", error)
        return None

    def close(self) -> None:
        """End the pictures."""
        self._next = len(self._paths)


def open_images(source: str, options: SourceOptions) -> OpenedSource:
    """Open a picture, or all pictures of a folder in the natural order of their names (2 before 10).

    Raises:
        InputError: nothing there, or no picture in the folder.
    """
    path = Path(source)
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
        paths = sorted(found, key=_natural_order)
        if not paths:
            raise InputError(f"no picture in folder {path} (wanted {', '.join(sorted(IMAGE_SUFFIXES))})")
    elif path.is_file():
        paths = [path]
    else:
        raise InputError(f"no image {path}")
    first = _first_readable(paths)
    info = SourceInfo(
        str(path),
        size=(first.shape[1], first.shape[0]),
        fps=options.fps if len(paths) > 1 else None,
        frame_count=len(paths),
        exact_count=True,
    )
    return OpenedSource(ImageSource(paths, fps=options.fps or NOMINAL_FPS), info)


def _first_readable(paths: Sequence[Path]) -> Image:
    """Read the first picture that can be read; the error of the only or last one is raised when none can."""
    for path in paths[:-1]:
        with contextlib.suppress(InputError):
            return read_image(path)
    return read_image(paths[-1])


def _natural_order(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name) if part]


class RawSource:
    """Raw BGR frames from a byte stream: height × width × 3 bytes each, nothing between them.

    size: (width, height) px. fps: gives the timestamps; without it frames are stamped as they arrive.
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
            InputError: the stream ended within a frame.
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
        """End the frames; the stream stays its owner's."""
        self._closed.set()

    def _wait_readable(self) -> bool:
        # A silent producer must not keep `close` waiting, so the wait is cut into slices.
        while not self._closed.is_set():
            try:
                ready, _, _ = select.select([self._stream], [], [], 0.05)
            except (OSError, ValueError):
                return True  # nothing to select on (a stream in memory, Windows): the read itself waits
            if ready:
                return True
        return False


def open_stdin(source: str, options: SourceOptions) -> OpenedSource:
    """Open standard input as raw BGR frames.

    Raises:
        InputError: no size, or a terminal instead of a pipe.
    """
    size, fps = options.size, options.fps
    if size is None:
        raise InputError(f"source {source} reads raw BGR frames and needs their size, as --size 640x480")
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            f"source {source} reads raw BGR frames from a pipe: ffmpeg -i … -f rawvideo -pix_fmt bgr24 - | mien …"
        )
    # Unbuffered: what a buffer had taken in already, select would not see.
    stream = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    return OpenedSource(RawSource(stream, size=size, fps=fps), SourceInfo("standard input", size=size, fps=fps))


class PacedSource:
    """Plays a recorded source as if it were live: its timestamps become moments on the clock, waited for.

    A reader that falls behind makes playback stall rather than hurry, so the age of a frame stays honest.
    """

    def __init__(self, source: Source, *, clock: Clock, pause: Callable[[float], object] | None = None) -> None:
        self._source = source
        self._clock = clock
        self._closed = threading.Event()
        self._pause = pause or self._closed.wait
        self._offset_ns: int | None = None

    def read(self) -> RawFrame | None:
        """See `Source`."""
        taken = self._source.read()
        if taken is None:
            return None
        pixels, media_ns = taken
        if media_ns is None:
            return taken
        now = self._clock()
        if self._offset_ns is None or media_ns + self._offset_ns < now:
            self._offset_ns = now - media_ns
        due = media_ns + self._offset_ns
        if due > now:
            self._pause((due - now) / 1e9)
        return pixels, due

    def close(self) -> None:
        """Close the source and end a wait."""
        self._closed.set()
        self._source.close()


def as_live(opened: OpenedSource, *, clock: Clock) -> OpenedSource:
    """Play a recorded source at its own pace; a live one has it anyway."""
    if opened.info.live:
        return opened
    return OpenedSource(PacedSource(opened.source, clock=clock), replace(opened.info, live=True))
