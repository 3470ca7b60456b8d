"""Defines sinks, which receive the result of each frame, and runs them in the background."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Sequence
from typing import Protocol

from ..errors import OutputError
from ..values import Faces, Frame, Image

STOP_TIMEOUT_S = 5.0
"""Time a writer has for its last frames once the run is to stop."""


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
        capacity: Length of the queue.

    Attributes:
        needs_picture: As in `Sink`.
        skipped: Number of results skipped.
    """

    def __init__(self, sink: Sink, *, live: bool = False, capacity: int = 8) -> None:
        self.needs_picture = sink.needs_picture
        self.skipped = 0
        self._live = live
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
        while self._thread.is_alive():
            if self._put(None, wait=True):
                self._thread.join(STOP_TIMEOUT_S if self._stopping else None)
                break
            if self._stopping and not self._drain():
                break
        if self._thread.is_alive():
            raise OutputError("an output is blocked because its reader has stopped reading; its last rows are lost")
        try:
            self._sink.close()
        finally:
            self._raise_failure()

    def _put(self, item: tuple[Frame, Faces, Image] | None, *, wait: bool) -> bool:
        try:
            self._queue.put(item, block=wait, timeout=0.2)
        except queue.Full:
            return False
        return True

    def _drain(self) -> bool:
        """Drop one queued result to make room; False if there is none."""
        with contextlib.suppress(queue.Empty):
            self._queue.get_nowait()
            self.skipped += 1
            return True
        return False

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
