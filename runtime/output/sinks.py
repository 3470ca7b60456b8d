"""Where results go: a video file, a window, and any sink in the background. Rows are in `row_sinks`."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Sequence
from typing import Protocol

from mien.runtime.errors import OutputError
from mien.runtime.values import Faces, Frame, Image

PATIENCE_S = 5.0
"""How long a writer may take for its last frames once a run is to end."""


class Sink(Protocol):
    """Takes each frame's result; `close` leaves a whole file behind, however the run ended."""

    wants_picture: bool
    """Whether `write` needs the drawn picture."""

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Take one result; False asks the run to end."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


class BackgroundSink:
    """Lets another sink work in a thread of its own, a bounded number of frames behind.

    live: a result that comes while it is that far behind is left out and counted in `missed`, for a camera does not
    wait; without it `write` waits, and nothing is left out.
    What goes wrong there is raised by the next `write` or by `close`, which waits for everything to be written.
    """

    def __init__(self, sink: Sink, *, live: bool = False, capacity: int = 8) -> None:
        self.wants_picture = sink.wants_picture
        self.missed = 0
        self._live = live
        self._sink = sink
        self._queue: queue.Queue[tuple[Frame, Faces, Image] | None] = queue.Queue(capacity)
        self._failure: BaseException | None = None
        self._goes_on = True
        self._hurry = False
        self._thread = threading.Thread(target=self._run, name="mien writer", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Hand one result over."""
        self._raise_failure()
        while not self._put((frame, faces, picture), wait=not self._live):
            if self._live or self._hurry:
                self.missed += 1
                break
        return self._goes_on

    def hurry(self) -> None:
        """Wait no longer for a writer that is stuck, such as a pipe that nobody reads: the run is to end."""
        self._hurry = True

    def close(self) -> None:
        """Write what is left and close the sink; a writer that is stuck in a run that is to end is left behind."""
        while self._thread.is_alive():
            if self._put(None, wait=True):
                self._thread.join(PATIENCE_S if self._hurry else None)
                break
            if self._hurry and not self._drain():
                break
        if self._thread.is_alive():
            raise OutputError("an output is stuck: what reads it does not go on; its last rows are lost")
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
        """Make room for the end by dropping what waits; False when there is nothing to drop."""
        with contextlib.suppress(queue.Empty):
            self._queue.get_nowait()
            self.missed += 1
            return True
        return False

    def _run(self) -> None:
        # After a failure the queue is still emptied, or the other side would wait for ever.
        while (item := self._queue.get()) is not None:
            if self._failure is None and self._goes_on:
                try:
                    self._goes_on = self._sink.write(*item)
                except Exception as error:  # noqa: BLE001 - raised in the thread that writes and closes
                    self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._goes_on = False
            raise failure


def close_all(sinks: Sequence[Sink]) -> None:
    """Close every sink, also when one of them fails; the first failure is raised at the end."""
    failure: Exception | None = None
    for sink in sinks:
        try:
            sink.close()
        except Exception as error:  # noqa: BLE001 - raised below, when every other file is whole
            failure = failure if failure is not None else error
    if failure is not None:
        raise failure
