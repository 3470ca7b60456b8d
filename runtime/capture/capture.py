"""Reads the frames of a camera, file or stream in a background thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..errors import InputError
from ..values import Frame, size_of
from ..wording import counted
from .frame_queue import FramePolicy, FrameQueue
from .sources import (
    Clock,
    OpenedSource,
    RawFrame,
    SourceLost,
)

log = logging.getLogger("mien")

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 5.0
MEASURED_INTERVALS = 60
"""Maximum number of frame intervals over which a live source's rate is measured."""
MIN_SPAN_NS = 250_000_000
"""Minimum time that they must span; until then, for example while a network stream delivers its backlog, the nominal
rate of the source is reported."""


@dataclass(frozen=True, slots=True)
class CaptureCounts:
    """Frame counts of a capture; read = delivered + dropped + those still queued at the end.

    Attributes:
        read: Frames read from the source.
        delivered: Frames returned to the consumer.
        dropped: Frames replaced by newer ones.
        reconnects: Number of reconnections.
    """

    read: int
    delivered: int
    dropped: int
    reconnects: int


class Capture:
    """Iterator over the frames of a source; use it as a context manager, or `close` it.

    A thread starts reading on construction. A lost live source is reopened with back-off until the capture is closed.
    An exception in the reader is raised after the frames read before it. Only one thread may consume frames; any
    thread may call `close`.

    Args:
        open_source: Opens the source, also when reconnecting.
        policy: Handling of frames that are not consumed in time; default: `LATEST` for live sources, else `EVERY`.
        reconnect: Reopen a lost live source.
        clock: Clock of the timestamps of live frames.
        pause: Waits between attempts to reconnect.
        join_timeout_s: Time that `close` waits for the reader.

    Raises:
        InputError: The source cannot be opened.
    """

    def __init__(
        self,
        open_source: Callable[[], OpenedSource],
        *,
        policy: FramePolicy | None = None,
        reconnect: bool = True,
        clock: Clock = time.monotonic_ns,
        pause: Callable[[float], object] | None = None,
        join_timeout_s: float = 10.0,
    ) -> None:
        self._open_source = open_source
        opened = open_source()
        self._source, self._info = opened.source, opened.info
        default = FramePolicy.LATEST if opened.info.live else FramePolicy.EVERY
        self._policy = default if policy is None else policy
        self._queue = FrameQueue(self._policy)
        self._reconnect = reconnect
        self._clock = clock
        self._stop = threading.Event()
        self._pause = pause or self._stop.wait
        self._join_timeout_s = join_timeout_s
        self._lock = threading.Lock()  # guards the attributes below
        self._size = opened.info.size
        self._last_ns: int | None = None
        self._stamps_ns: deque[int] = deque(maxlen=MEASURED_INTERVALS + 1)
        self._read = 0
        self._reconnects = 0
        self._damage: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"mien capture {self.name}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """Display name of the source, without passwords."""
        return self._info.name

    @property
    def live(self) -> bool:
        """True if timestamps are on `clock`, so the age of a frame is `clock() - frame.timestamp_ns`."""
        return self._info.live

    @property
    def clock(self) -> Clock:
        """Monotonic clock in ns, which timestamps live frames."""
        return self._clock

    @property
    def policy(self) -> FramePolicy:
        """Handling of frames that are not consumed in time."""
        return self._policy

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) in px of the last frame read; None before the first if unknown."""
        with self._lock:
            return self._size

    @property
    def fps(self) -> float | None:
        """Frames per second: measured for a live source, from the header of a file."""
        with self._lock:
            span_ns = self._stamps_ns[-1] - self._stamps_ns[0] if self._stamps_ns else 0
            if self._info.live and span_ns >= MIN_SPAN_NS:
                return (len(self._stamps_ns) - 1) * 1e9 / span_ns
            return self._info.fps

    @property
    def frame_count(self) -> int | None:
        """Number of frames according to the header of a file, which may be wrong; None if unknown."""
        return self._info.frame_count

    @property
    def counts(self) -> CaptureCounts:
        """Frame counts so far."""
        with self._lock:
            return CaptureCounts(self._read, self._queue.delivered, self._queue.dropped, self._reconnects)

    @property
    def damage(self) -> str | None:
        """What a recording's container or decoder reported after the last frame that could be read; None if whole."""
        with self._lock:
            return self._damage

    @property
    def ended(self) -> bool:
        """True if no more frames will be delivered."""
        return self._queue.ended

    def wait_frame(self, timeout_s: float) -> Frame | None:
        """Wait for a frame, for consumers that must stay responsive while a camera is away.

        Returns:
            The frame, or None after the timeout or at the end (see `ended`).

        Raises:
            InputError: The source was lost or cannot be read further. Other exceptions of the reader are raised as is.
        """
        return self._queue.take(timeout_s)

    def close(self) -> None:
        """Stop reading, release the source and join the thread; a second call does nothing."""
        self._stop.set()
        error = self._queue.cancel()
        with self._lock:
            source = self._source
        source.close()  # wakes a reader that is blocked in it
        self._thread.join(self._join_timeout_s)
        if self._thread.is_alive():
            log.warning("%s: the driver does not return; its thread was left running", self.name)
        if error is not None:
            log.warning("%s: had failed unnoticed: %s", self.name, error)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        while True:
            # Poll: on Windows, Ctrl-C cannot interrupt an unlimited wait.
            frame = self._queue.take(0.5)
            if frame is not None:
                return frame
            if self._queue.ended:
                raise StopIteration

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        with self._queue:  # passes an exception on to the consumer
            try:
                while not self._stop.is_set():
                    try:
                        raw, lost = self._source.read(), None
                    except SourceLost as error:
                        raw, lost = None, error
                    if raw is not None:
                        self._queue.put(self._as_frame(raw))
                    elif not self._continue_after_end(lost):
                        break
            finally:
                self._source.close()

    def _as_frame(self, raw: RawFrame) -> Frame:
        pixels, stamp_ns = raw
        stamp_ns = self._clock() if stamp_ns is None else stamp_ns
        size = size_of(pixels)
        with self._lock:
            if self._size is not None and size != self._size:
                level = logging.WARNING if self.live else logging.DEBUG  # common in a folder of pictures
                log.log(level, "%s: frames change from %dx%d to %dx%d px", self.name, *self._size, *size)
            self._size = size
            if self._last_ns is not None:
                stamp_ns = max(stamp_ns, self._last_ns + 1)  # strictly increasing: filters divide by the difference
            self._last_ns = stamp_ns
            self._stamps_ns.append(stamp_ns)
            self._read += 1
            return Frame(pixels=pixels, timestamp_ns=stamp_ns, index=self._read - 1)

    def _continue_after_end(self, lost: SourceLost | None) -> bool:
        """Reconnect if possible; return False if there is nothing more to read."""
        if self._stop.is_set():
            return False
        if self._info.reconnectable and not (lost is None and self._info.marks_end):
            if self._reconnect:
                return self._reconnect_source()
            raise InputError(f"{self.name} was lost after {counted(self._read, 'frame')}")
        if lost is not None:
            with self._lock:
                self._damage = str(lost)
        return False

    def _reconnect_source(self) -> bool:
        log.warning("%s was lost after %s; reconnecting", self.name, counted(self._read, "frame"))
        self._source.close()
        delay_s = FIRST_BACKOFF_S
        while True:
            self._pause(delay_s)
            if self._stop.is_set():
                return False
            try:
                opened = self._open_source()
                break
            except InputError as error:
                log.info("%s", error)
                delay_s = min(2 * delay_s, MAX_BACKOFF_S)
        if not opened.info.live:  # a broadcast that has ended is offered as a recording: it has been seen
            opened.source.close()
            return False
        with self._lock:
            self._source, self._info = opened.source, opened.info
            self._reconnects += 1
            self._stamps_ns.clear()  # the gap is not a frame interval
        log.warning("%s is available again", self.name)
        return True
