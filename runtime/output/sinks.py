"""Defines sinks, which receive the result of each frame, and runs them in the background."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from ..errors import OutputError
from ..values import Faces, Frame, Image

STOP_TIMEOUT_S = 5.0
"""Time a writer has for its queued results once the run is to stop."""
FILE_TIMEOUT_S = 60.0
"""Time the disk of a file then has, because a file that is not completed is lost as a whole."""
POLL_S = 0.2


class Sink(Protocol):
    """Receiver of each frame's result."""

    needs_picture: bool
    """True if `write` needs the drawn picture."""

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Take one result; return False to end the run."""
        ...

    def close(self) -> None:
        """Complete the file, however the run ended."""
        ...


class BackgroundSink:
    """Sink that runs another one in a thread, with a bounded queue. Errors are raised by the next `write` or `close`.

    Args:
        sink: Sink to run.
        live: Skip a result if the queue is full, because a camera does not wait; otherwise `write` blocks.
        has_reader: Another program takes what the sink writes, and may stop doing so.
        capacity: Length of the queue.

    Attributes:
        needs_picture: As in `Sink`.
        skipped: Number of results skipped.
    """

    def __init__(self, sink: Sink, *, live: bool = False, has_reader: bool = False, capacity: int = 8) -> None:
        self.needs_picture = sink.needs_picture
        self.skipped = 0
        self._live = live
        self._has_reader = has_reader
        self._sink = sink
        self._queue: queue.Queue[tuple[Frame, Faces, Image] | None] = queue.Queue(capacity)
        self._failure: BaseException | None = None
        self._wanted = True
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="mien writer", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Queue one result."""
        self._raise_failure()
        while not self._put((frame, faces, picture), wait=not self._live):
            if self._live or self._stopping:
                self.skipped += 1
                break
        return self._wanted

    def stop_waiting(self) -> None:
        """Stop waiting for a blocked writer, such as a pipe that nobody reads, because the run is to stop."""
        self._stopping = True

    def close(self) -> None:
        """Write the queued results and close the sink.

        Raises:
            OutputError: The writer stayed blocked after `stop_waiting`, or failed.
        """
        self._end_writer()
        if self._thread.is_alive():
            raise OutputError(
                "an output is blocked because its reader has stopped reading; its last rows are lost"
                if self._has_reader
                else f"a file is lost: its disk has not answered for {FILE_TIMEOUT_S:g} s; is it still connected?"
            )
        try:
            self._sink.close()
        finally:
            self._raise_failure()

    def _end_writer(self) -> None:
        """Have the writer end after the queued results; once the run is to stop, without those that take too long."""
        limit_s = STOP_TIMEOUT_S if self._has_reader else FILE_TIMEOUT_S
        stopped_s = math.inf
        marked = False
        while self._thread.is_alive() and time.monotonic() < stopped_s + limit_s:
            marked = marked or self._put(None, wait=True)
            self._thread.join(POLL_S)  # a signal may arrive at any time
            if self._stopping:
                stopped_s = min(stopped_s, time.monotonic())
            if time.monotonic() >= stopped_s + STOP_TIMEOUT_S:
                self._drop_queued()
                marked = self._put(None, wait=False)

    def _put(self, item: tuple[Frame, Faces, Image] | None, *, wait: bool) -> bool:
        try:
            self._queue.put(item, block=wait, timeout=POLL_S)
        except queue.Full:
            return False
        return True

    def _drop_queued(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self.skipped += self._queue.get_nowait() is not None

    def _run(self) -> None:
        # Keep emptying the queue after a failure, or the other side would wait forever.
        while (item := self._queue.get()) is not None:
            if self._failure is None and self._wanted:
                try:
                    self._wanted = self._sink.write(*item)
                except Exception as error:  # noqa: BLE001 - raised in the thread that writes and closes
                    self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._wanted = False
            raise failure


def close_all(sinks: Sequence[Sink]) -> None:
    """Close every sink, then raise the first failure, if any."""
    failure: Exception | None = None
    for sink in sinks:
        try:
            sink.close()
        except Exception as error:  # noqa: BLE001 - raised below, once every file is complete
            failure = failure if failure is not None else error
    if failure is not None:
        raise failure
