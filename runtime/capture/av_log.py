"""Collects what FFmpeg logs through PyAV; its demuxers report damage in no other way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import av.logging

_lock = threading.Lock()
_collectors = 0
_level: int | None = None
logging.getLogger("libav").addHandler(logging.NullHandler())  # for what other threads log in the meantime


@contextmanager
def container_errors() -> Iterator[list[tuple[int, str, str]]]:
    """Collect the errors that FFmpeg logs in this thread, as (level, name, message)."""
    _count_collectors(1)
    try:
        with av.logging.Capture(local=True) as logged:
            yield logged
    finally:
        _count_collectors(-1)


def _count_collectors(change: int) -> None:
    """Set PyAV's level, which all threads share, for the first collector, and restore it after the last."""
    global _collectors, _level
    with _lock:
        if not _collectors:
            _level = av.logging.get_level()
            av.logging.set_skip_repeated(False)  # or an error that the last file had too is not logged
            av.logging.set_level(av.logging.ERROR)
        _collectors += change
        if not _collectors:
            av.logging.set_level(_level)
