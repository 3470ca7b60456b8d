"""Defines the protocol of frame sources, and the sources that need no camera."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

from ..errors import InputError
from ..file_kinds import check_file, is_folder
from ..pictures.folders import claims_picture, is_picture, natural_order, pictures_in
from ..pictures.images import read_frames, read_image
from ..values import Image, size_of

log = logging.getLogger("mien")

NOMINAL_FPS = 30.0
"""Rate for timestamps if a source has none."""
MAX_FPS = 1000
"""Rates above it in the header of a file are a time base, such as 90000."""
MAX_OPTION = 1 << 14
"""px, frames per second or s: of several times this, OpenCV and FFmpeg fail in ways of their own."""
RawFrame = tuple[Image, "int | None"]
"""Pixels (h, w, 3) uint8 BGR, and a timestamp in ns or None to use the time of arrival."""
Clock = Callable[[], int]
"""Monotonic time in ns."""


class SourceLost(InputError):
    """A source broke off; the message says what its container, decoder or network reported."""


class Source(Protocol):
    """Source of pictures. One thread reads; any thread may close."""

    def read(self) -> RawFrame | None:
        """Wait for the next picture; return None if the source has ended or was closed.

        Raises:
            SourceLost: The source broke off; what could be read has been returned.
        """
        ...

    def close(self) -> None:
        """Release the source; a blocked `read` returns soon, and a second call does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Properties of an open source; None for unknown ones.

    Attributes:
        name: Display name, without passwords.
        live: Frames arrive whether or not they are read, with timestamps on the capture's clock.
        reconnectable: Once the source is lost, reopening it may help.
        marks_end: Whether the source distinguishes its end from a loss; if not, any end of a reconnectable source
            counts as a loss.
        size: (width, height) in px.
        fps: Nominal frame rate.
        frame_count: Number of frames according to the header of a file, which may be wrong.
    """

    name: str
    live: bool = False
    reconnectable: bool = False
    marks_end: bool = False
    size: tuple[int, int] | None = None
    fps: float | None = None
    frame_count: int | None = None


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source and its properties."""

    source: Source
    info: SourceInfo


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Requested properties of a source; each source uses those that apply to it.

    Attributes:
        size: (width, height) in px.
        fps: Frame rate.
        open_timeout_s: Time to open a network stream or GStreamer pipeline.
        read_timeout_s: Time to wait for a frame of a network stream. OpenCV's own limits are 10 s for V4L2 and 30 s for
            GStreamer.
        clock: Clock of the timestamps of live frames.

    Raises:
        InputError: A value is not above 0, or above `MAX_OPTION`.
    """

    size: tuple[int, int] | None = None
    fps: float | None = None
    open_timeout_s: float = 5.0
    read_timeout_s: float = 5.0
    clock: Clock = time.monotonic_ns

    def __post_init__(self) -> None:
        fps = NOMINAL_FPS if self.fps is None else self.fps
        if not all(0 < n <= MAX_OPTION for n in (*(self.size or ()), fps, self.open_timeout_s, self.read_timeout_s)):
            raise InputError(
                f"expected size, rate and timeouts above 0 and up to {MAX_OPTION}; found {self.size}, {self.fps}, "
                f"{self.open_timeout_s} and {self.read_timeout_s}"
            )


class SourceKind(Enum):
    """Kind of a source."""

    CAMERA = "camera"
    VIDEO = "video file"
    IMAGES = "image or folder"
    STREAM = "network stream"
    CSI = "CSI camera"
    GSTREAMER = "GStreamer pipeline"
    DEMO = "demo"
    STDIN = "standard input"


def source_kind(source: str) -> SourceKind:
    """Determine the kind of a source from its name; a file named ``demo`` or ``0`` is given as ``./demo`` or ``./0``.

    Raises:
        InputError: The name is empty.
    """
    if not source:
        raise InputError("expected a source, such as 0, demo or a file; found an empty string")
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
    picture = is_picture(path) if os.path.lexists(path) else claims_picture(path.name)
    return SourceKind.IMAGES if picture or is_folder(path) else SourceKind.VIDEO


class ImageSource:
    """Source that reads picture files, 1/`fps` seconds apart; the frames of an animation come at their own times."""

    def __init__(self, paths: Sequence[Path], *, fps: float = NOMINAL_FPS) -> None:
        self._paths = paths
        self._interval_ns = 1e9 / fps
        self._frames = self._read_all()

    def read(self) -> RawFrame | None:
        """See `Source`."""
        return next(self._frames, None)

    def close(self) -> None:
        """End the source."""
        self._paths = ()

    def _read_all(self) -> Iterator[RawFrame]:
        shown_ns = 0.0
        skipped, paths = 0, self._paths
        for path in paths:
            try:
                for frame in read_frames(path):
                    if not self._paths:
                        return  # closed
                    yield frame.pixels, round(shown_ns)
                    shown_ns += frame.duration_ms * 1e6 if frame.duration_ms else self._interval_ns
            except InputError as error:
                if len(paths) == 1:  # the first frame of this animation could be read
                    raise SourceLost(str(error)) from error
                log.warning("skipped: %s", error)
                skipped += 1
        if skipped:
            raise SourceLost(f"{skipped} of the {len(paths)} pictures cannot be read")


def open_images(source: str, options: SourceOptions) -> OpenedSource:
    """Open a picture, or all pictures of a folder in natural order (2 before 10).

    Raises:
        InputError: The path does not exist, or the folder has no picture.
    """
    path = Path(source)
    if is_folder(path):
        paths = sorted(pictures_in(path), key=natural_order)
    else:
        check_file(path)
        paths = [path]
    first = _first_readable(paths)
    info = SourceInfo(
        str(path),
        size=size_of(first),
        fps=options.fps if len(paths) > 1 else None,
        frame_count=len(paths),
    )
    return OpenedSource(ImageSource(paths, fps=options.fps or NOMINAL_FPS), info)


def _first_readable(paths: Sequence[Path]) -> Image:
    """Read the first readable picture; raise the error of the last one if there is none."""
    for path in paths[:-1]:
        with contextlib.suppress(InputError):
            return read_image(path)
    return read_image(paths[-1])


class PacedSource:
    """Source that plays a recording in real time, with timestamps on the clock.

    If the reader falls behind, playback is delayed rather than sped up, so the age of a frame stays correct.

    Args:
        source: Recording.
        clock: Clock of the timestamps.
        pause: Waits until a frame is due.
        longest_pause_s: A frame that would be due later than this is returned at once, and those after it accordingly.
    """

    def __init__(
        self,
        source: Source,
        *,
        clock: Clock,
        pause: Callable[[float], object] | None = None,
        longest_pause_s: float = math.inf,
    ) -> None:
        self._source = source
        self._clock = clock
        self._closed = threading.Event()
        self._pause = pause or self._closed.wait
        self._longest_pause_ns = longest_pause_s * 1e9
        self._offset_ns: int | None = None

    def read(self) -> RawFrame | None:
        """See `Source`."""
        raw = self._source.read()
        if raw is None:
            return None
        pixels, media_ns = raw
        if media_ns is None:
            return raw
        now = self._clock()
        if self._offset_ns is None or not 0 <= media_ns + self._offset_ns - now <= self._longest_pause_ns:
            self._offset_ns = now - media_ns
        due = media_ns + self._offset_ns
        if due > now:
            self._pause((due - now) / 1e9)
        return pixels, due

    def close(self) -> None:
        """Close the source and wake a waiting `read`."""
        self._closed.set()
        self._source.close()


def as_live(opened: OpenedSource, *, clock: Clock) -> OpenedSource:
    """Make a recording play in real time; return a live source as is."""
    if opened.info.live:
        return opened
    return OpenedSource(PacedSource(opened.source, clock=clock), replace(opened.info, live=True))
