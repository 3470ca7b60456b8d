"""Defers closing a resource until its in-flight calls have finished."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..errors import InputError


class InFlightCalls:
    """Context manager around each call of a resource that may be closed at any time, from any thread.

    Closing rejects later calls and releases the resource once no call is in flight. It never waits, so a signal handler
    may close a resource that its own thread is using.

    Args:
        release: Releases the resource; called once.
        name: Name of the resource in errors.
    """

    def __init__(self, release: Callable[[], None], *, name: str) -> None:
        self._release = release
        self._name = name
        self._lock = threading.RLock()
        self._count = 0
        self._closed = False

    def __enter__(self) -> None:
        """Begin a call.

        Raises:
            InputError: The resource is closed.
        """
        with self._lock:
            if self._closed:
                raise InputError(f"the {self._name} is closed")
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1
            last = self._closed and not self._count
        if last:
            self._release()

    def close(self) -> None:
        """Reject later calls and release the resource, now or after the last call in flight. Idempotent."""
        with self._lock:
            idle = not self._closed and not self._count
            self._closed = True
        if idle:
            self._release()
