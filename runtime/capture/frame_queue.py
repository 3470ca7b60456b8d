"""The hand-over from the thread that reads frames to the one that uses them."""

from __future__ import annotations

import threading
from collections import deque
from enum import Enum
from types import TracebackType

from mien.runtime.values import Frame


class FramePolicy(Enum):
    """What happens to frames that come faster than they are used."""

    LATEST = "latest"
    """The newest frame replaces the one that waits: latency stays bounded, frames are dropped."""
    EVERY = "every"
    """The reader waits for room: no frame is lost."""


class FrameQueue:
    """Bounded queue between one producer and one consumer.

    The producer works within ``with queue:``. Leaving the block ends the queue; an exception that leaves it is
    kept for the consumer, who gets it after the frames that came before it. `cancel` is the consumer's way out.
    """

    def __init__(self, policy: FramePolicy, *, capacity: int = 2) -> None:
        self._policy = policy
        self._capacity = 1 if policy is FramePolicy.LATEST else capacity
        self._frames: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._cancelled = False
        self._error: BaseException | None = None
        self._dropped = 0
        self._delivered = 0

    @property
    def dropped(self) -> int:
        """Frames replaced before they were taken."""
        return self._dropped

    @property
    def delivered(self) -> int:
        """Frames taken."""
        return self._delivered

    @property
    def ended(self) -> bool:
        """Nothing will come any more: no frame, and no error that is still to be raised."""
        with self._changed:
            return self._cancelled or (self._finished and not self._frames and self._error is None)

    def put(self, frame: Frame) -> bool:
        """Hand over a frame, waiting for room under `FramePolicy.EVERY`; False when nobody wants it any more."""
        with self._changed:
            if self._policy is FramePolicy.EVERY:
                self._changed.wait_for(lambda: self._cancelled or len(self._frames) < self._capacity)
            if self._cancelled:
                return False
            if len(self._frames) == self._capacity:
                self._frames.popleft()
                self._dropped += 1
            self._frames.append(frame)
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float) -> Frame | None:
        """Wait for a frame; None when none came in time or the queue has ended (`ended` tells which).

        Raises:
            BaseException: what ended the producer, once.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or self._finished or self._frames, timeout_s)
            if self._frames:
                self._delivered += 1
                self._changed.notify_all()
                return self._frames.popleft()
            if self._error is None or self._cancelled:
                return None
            error, self._error = self._error, None
        raise error

    def cancel(self) -> BaseException | None:
        """Drop what waits and let the producer go; returns the error that nobody has seen, if there is one."""
        with self._changed:
            self._cancelled = True
            self._frames.clear()
            self._changed.notify_all()
            return self._error

    def __enter__(self) -> FrameQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        with self._changed:
            self._error = error
            self._finished = True
            self._changed.notify_all()
        return True
