"""`open_capture`: frames of a camera, file or stream, read by a thread of its own and never late unnoticed."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from mien.runtime.capture.cameras import open_camera, open_csi
from mien.runtime.capture.demo_camera import open_demo
from mien.runtime.capture.frame_queue import FramePolicy, FrameQueue
from mien.runtime.capture.opencv_video import open_gstreamer, open_stream, open_video, without_password
from mien.runtime.capture.sources import (
    Clock,
    OpenedSource,
    RawFrame,
    SourceKind,
    SourceOptions,
    as_live,
    open_images,
    open_stdin,
    source_kind,
)
from mien.runtime.errors import InputError
from mien.runtime.values import Frame

logger = logging.getLogger("mien")

OPENERS: dict[SourceKind, Callable[[str, SourceOptions], OpenedSource]] = {
    SourceKind.CAMERA: open_camera,
    SourceKind.CSI: open_csi,
    SourceKind.GSTREAMER: open_gstreamer,
    SourceKind.STREAM: open_stream,
    SourceKind.VIDEO: open_video,
    SourceKind.IMAGES: open_images,
    SourceKind.DEMO: open_demo,
    SourceKind.STDIN: open_stdin,
}
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 5.0
MEASURED_INTERVALS = 60
"""A live source's rate is measured over so many frames …"""
MIN_INTERVALS = 10
"""… and at least so many; before, it is what the source claims."""


@dataclass(frozen=True, slots=True)
class CaptureCounts:
    """What became of the frames: read = delivered + dropped + those still waiting when the capture was closed."""

    read: int
    delivered: int
    dropped: int
    reconnects: int


class Capture:
    """Iterator over the `Frame`s of a source; use it as a context manager, or `close` it.

    One thread reads from the moment of construction on. A lost live source is opened again by `open_source`, with
    back-off, for as long as the capture is open. An exception of the reader reaches the consumer after the frames
    that were read before it. One thread consumes; `close` may be called by any.

    clock: what live frames are stamped with. pause: waits between attempts to reconnect.
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
        self._reconnect = reconnect and opened.info.reconnectable
        self._clock = clock
        self._stop = threading.Event()
        self._pause = pause or self._stop.wait
        self._join_timeout_s = join_timeout_s
        self._lock = threading.Lock()  # guards what follows, which both threads touch
        self._size = opened.info.size
        self._last_ns: int | None = None
        self._stamps_ns: deque[int] = deque(maxlen=MEASURED_INTERVALS + 1)
        self._read = 0
        self._reconnects = 0
        self._truncated = False
        self._thread = threading.Thread(target=self._run, name=f"mien capture {self.name}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The source, for people; without passwords."""
        return self._info.name

    @property
    def live(self) -> bool:
        """Whether timestamps are on `clock`, so that a frame's age is `clock() - frame.timestamp_ns`."""
        return self._info.live

    @property
    def clock(self) -> Clock:
        """Monotonic ns, what a live source's frames are stamped with."""
        return self._clock

    @property
    def policy(self) -> FramePolicy:
        """What happens to frames that are not taken in time."""
        return self._policy

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) px of the frame read last; None before the first where the source does not tell."""
        with self._lock:
            return self._size

    @property
    def fps(self) -> float | None:
        """Frames per second that the source really gives: measured when live, of the header in a file."""
        with self._lock:
            intervals = len(self._stamps_ns) - 1
            if self._info.live and intervals >= MIN_INTERVALS:
                return intervals * 1e9 / (self._stamps_ns[-1] - self._stamps_ns[0])
            return self._info.fps

    @property
    def frame_count(self) -> int | None:
        """How many frames a file claims to have; None where unknown."""
        return self._info.frame_count

    @property
    def counts(self) -> CaptureCounts:
        """What became of the frames so far."""
        with self._lock:
            return CaptureCounts(self._read, self._queue.delivered, self._queue.dropped, self._reconnects)

    @property
    def truncated(self) -> bool:
        """Whether a file ended before the number of frames that it claims."""
        with self._lock:
            return self._truncated

    @property
    def ended(self) -> bool:
        """Nothing will come any more."""
        return self._queue.ended

    def wait_frame(self, timeout_s: float) -> Frame | None:
        """Wait so long for a frame: for a consumer that has a window to keep alive while a camera is away.

        None when none came in time, or none will come any more (`ended`).

        Raises:
            InputError: the source was lost for good or cannot be read on; other exceptions of the reader as they are.
        """
        return self._queue.take(timeout_s)

    def close(self) -> None:
        """Stop reading, release the source and join the thread; iteration ends. Twice does no harm."""
        self._stop.set()
        unseen = self._queue.cancel()
        with self._lock:
            source = self._source
        source.close()  # wakes a reader that waits in it
        self._thread.join(self._join_timeout_s)
        if self._thread.is_alive():
            logger.warning("%s: its driver does not return; left behind", self.name)
        if unseen is not None:
            logger.warning("%s: had failed, unseen: %s", self.name, unseen)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        while True:
            # Waits in slices, for on Windows an endless wait cannot be interrupted by Ctrl-C.
            frame = self._queue.take(0.5)
            if frame is not None:
                return frame
            if self._queue.ended:
                raise StopIteration

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        with self._queue:  # keeps an exception for the consumer
            try:
                while not self._stop.is_set():
                    taken = self._source.read()
                    if taken is not None:
                        self._queue.put(self._as_frame(taken))
                    elif not self._goes_on():
                        break
            finally:
                self._source.close()

    def _as_frame(self, taken: RawFrame) -> Frame:
        pixels, stamp_ns = taken
        stamp_ns = self._clock() if stamp_ns is None else stamp_ns
        size = (pixels.shape[1], pixels.shape[0])
        with self._lock:
            if self._size is not None and size != self._size:
                level = logging.WARNING if self.live else logging.DEBUG  # in a folder of pictures it is usual
                logger.log(level, "%s: frames change from %dx%d to %dx%d px", self.name, *self._size, *size)
            self._size = size
            if self._last_ns is not None:
                stamp_ns = max(stamp_ns, self._last_ns + 1)  # filters divide by the difference
            self._last_ns = stamp_ns
            self._stamps_ns.append(stamp_ns)
            self._read += 1
            return Frame(pixels=pixels, timestamp_ns=stamp_ns, index=self._read - 1)

    def _goes_on(self) -> bool:
        """Decide after the end of a source whether there is more to read."""
        if self._stop.is_set():
            return False
        if self._reconnect:
            return self._open_again()
        if self._info.reconnectable:
            raise InputError(f"{self.name} was lost after {self._read} frames")
        claimed = self._info.frame_count
        # Containers without an index estimate their count from duration and rate: a little less is no loss.
        slack = 0 if self._info.exact_count else max(1, (claimed or 0) // 50)
        if claimed is not None and claimed - self._read > slack:
            logger.warning("%s ends after %d of %d frames: it is truncated", self.name, self._read, claimed)
            with self._lock:
                self._truncated = True
        return False

    def _open_again(self) -> bool:
        logger.warning("%s was lost after %d frames; trying to get it back", self.name, self._read)
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
                logger.info("%s", error)
                delay_s = min(2 * delay_s, MAX_BACKOFF_S)
        with self._lock:
            self._source, self._info = opened.source, opened.info
            self._reconnects += 1
            self._stamps_ns.clear()  # the gap is no frame interval
        logger.warning("%s is back", self.name)
        return True


def open_capture(
    source: str | os.PathLike[str] | int,
    *,
    policy: FramePolicy | None = None,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    paced: bool = False,
    open_timeout_s: float = 5.0,
    read_timeout_s: float = 5.0,
    reconnect: bool = True,
    clock: Clock = time.monotonic_ns,
) -> Capture:
    """Open a camera number or device, video, picture, folder, URL, ``csi://0``, ``gst:PIPELINE``, ``demo`` or ``-``.

    policy: `LATEST` unless told for live sources, `EVERY` for the others. size: (width, height) px and fps are asked
    of cameras and given to ``demo`` and ``-``; files keep theirs (folders of pictures take the fps). paced: play a
    recording as if it were live. The timeouts: see `SourceOptions`.
    A live source is read from now on: load models first, or the frames of that time count as dropped.

    Raises:
        InputError: not there, cannot be read, or an option that it needs is missing.
    """
    source = str(source) if isinstance(source, int) else os.fspath(source)
    options = SourceOptions(size, fps, open_timeout_s, read_timeout_s, clock)
    kind = source_kind(source)
    _warn_unused(source, kind, options)

    def open_source() -> OpenedSource:
        opened = OPENERS[kind](source, options)
        return as_live(opened, clock=clock) if paced else opened

    return Capture(
        open_source,
        policy=policy,
        reconnect=reconnect,
        clock=clock,
        join_timeout_s=max(open_timeout_s, read_timeout_s) + 1.0,
    )


def _warn_unused(source: str, kind: SourceKind, options: SourceOptions) -> None:
    own_rate = (SourceKind.VIDEO, SourceKind.STREAM, SourceKind.GSTREAMER)
    if options.size is not None and kind in (*own_rate, SourceKind.IMAGES):
        logger.warning("%s: a %s keeps its own size", without_password(source), kind.value)
    if options.fps is not None and kind in own_rate:
        logger.warning("%s: a %s keeps its own rate", without_password(source), kind.value)
