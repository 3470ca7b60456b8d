"""Computes the times of a file's frames."""

from __future__ import annotations


class FrameTimes:
    """Strictly increasing times of a file's frames in ns, from 0 on.

    Args:
        interval_ns: Nominal time between frames, for files without usable timestamps: they have none or repeat one.
    """

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._start_ns = 0
        self._last_ns: int | None = None

    def next(self, reported_ns: int | None) -> int:
        """Return the time of the next frame, given its timestamp."""
        if self._last_ns is None:
            self._start_ns = reported_ns or 0
            self._last_ns = 0
        elif reported_ns is not None and reported_ns - self._start_ns > self._last_ns:
            self._last_ns = reported_ns - self._start_ns
        else:
            self._last_ns += self._interval_ns
        return self._last_ns
