"""Hands frames from the reader thread to the consumer."""

from __future__ import annotations

import threading
from collections import deque
from enum import Enum
from types import TracebackType

from ..values import Frame


class FramePolicy(Enum):
    """Handling of frames that arrive faster than they are consumed."""

    LATEST = "latest"
    """A new frame replaces the queued one: latency is bounded, frames are dropped."""
    EVERY = "every"
    """The reader waits for space: no frame is lost."""


class FrameQueue:
    """Bounded queue between one producer and one consumer.

    The producer works within ``with queue:``, which ends the queue on exit. An exception in the block is passed on to
    the consumer after the queued frames. The consumer can `cancel` the queue.

    Args:
        policy: Handling of frames when the queue is full.
        capacity: Maximum length under `FramePolicy.EVERY`.
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
        """Number of frames replaced before they were taken."""
        return self._dropped

    @property
    def delivered(self) -> int:
        """Number of frames taken."""
        return self._delivered

    @property
    def ended(self) -> bool:
        """True if neither a frame nor an error is left to be delivered."""
        with self._changed:
            return self._cancelled or (self._finished and not self._frames and self._error is None)

    def put(self, frame: Frame) -> bool:
        """Queue a frame, waiting for space under `FramePolicy.EVERY`; return False if the queue was cancelled."""
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
        """Wait for a frame.

        Returns:
            The frame, or None after the timeout or at the end (see `ended`).

        Raises:
            BaseException: The exception that ended the producer, once.
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
        """Drop queued frames and release the producer; return its error if it was not raised yet."""
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
