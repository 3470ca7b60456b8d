"""Captures messages that C libraries print; libjpeg reports damage in no other way.

libjpeg and libpng call ``fprintf(stderr, …)``. In glibc `stderr` is a variable, so it can point to a stream of our own
for the duration of a call. File descriptor 2, and with it Python's `sys.stderr`, stays as it is, and as the stream is
written by the thread that decodes, each thread gets its own lines.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator

_WRITE = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _CookieFunctions(ctypes.Structure):
    """``cookie_io_functions_t`` of glibc."""

    _fields_ = (
        ("read", ctypes.c_void_p),
        ("write", _WRITE),
        ("seek", ctypes.c_void_p),
        ("close", ctypes.c_void_p),
    )


@contextlib.contextmanager
def native_messages() -> Iterator[list[str]]:
    """Collect what C code prints on its `stderr` in this thread inside the block; nothing is collected without glibc.

    Yields:
        List of the texts printed so far.
    """
    messages: list[str] = []
    _local.messages = messages
    _divert(1)
    try:
        yield messages
    finally:
        _divert(-1)
        _local.messages = None


_local = threading.local()
_lock = threading.Lock()
_users = 0


def _collect(_: object, text: int, length: int) -> int:
    printed = ctypes.string_at(text, length)
    messages = getattr(_local, "messages", None)
    if messages is None:  # another thread, which is not decoding
        with contextlib.suppress(OSError):
            os.write(2, printed)
    else:
        messages.append(printed.decode(errors="replace").strip())
    return length


_write = _WRITE(_collect)


def _divert(change: int) -> None:
    """Count the users of the stream; the first replaces `stderr` by it, and the last restores `stderr`."""
    global _users
    if _streams is None:
        return
    variable, original, ours = _streams
    with _lock:
        _users += change
        variable.value = ours if _users else original


def _open_streams() -> tuple[ctypes.c_void_p, int | None, int] | None:
    """Open our stream; return the variable `stderr`, its value, and that of our stream; None without glibc."""
    try:
        libc = ctypes.CDLL(None)
        variable = ctypes.c_void_p.in_dll(libc, "stderr")
        libc.fopencookie.restype = ctypes.c_void_p
        libc.fopencookie.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _CookieFunctions]
        libc.setvbuf.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    except (AttributeError, TypeError, ValueError, OSError):  # musl, macOS, Windows
        return None
    ours = libc.fopencookie(None, b"w", _CookieFunctions(write=_write))
    if not ours:
        return None
    line_buffered = 1
    libc.setvbuf(ours, None, line_buffered, 0)
    return variable, variable.value, ours


_streams = _open_streams()
