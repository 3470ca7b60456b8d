"""Calls under way: what they use is closed behind the last of them, whoever asks for it and when."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .errors import InputError


class CallsUnderWay:
    """A context manager around each call. Closing it refuses later calls, and runs `release` when none is under way.

    Nobody waits: a signal's handler may close what its own thread is in the middle of.
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
            InputError: closed.
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
        """Refuse later calls, and release now or behind the last call under way; a second time does nothing."""
        with self._lock:
            idle = not self._closed and not self._count
            self._closed = True
        if idle:
            self._release()
