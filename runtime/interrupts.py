"""Handles signals: Ctrl-C, SIGTERM and SIGHUP all raise KeyboardInterrupt, so that files are completed."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
REPEAT_S = 0.01
"""Delay before repeating an interrupt that Python has dropped."""
_arrived: signal.Signals | None = None
"""Last signal received."""


def leave_at_once() -> None:
    """Let signals end the process silently until a command runs; SIGHUP stays ignored under nohup."""
    _handle(lambda number: os._exit(128 + number))


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Make every terminating signal raise KeyboardInterrupt inside the block.

    Python drops exceptions raised in a destructor, or in a callback of a weak reference or of C code; the signal is
    repeated then.
    """

    def interrupt(_: signal.Signals) -> None:
        raise KeyboardInterrupt

    def repeat_dropped(dropped: sys.UnraisableHookArgs) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            threading.Timer(REPEAT_S, _signal_main_thread).start()
        else:
            previous(dropped)

    previous = sys.unraisablehook
    with deferred(interrupt):
        sys.unraisablehook = repeat_dropped
        try:
            yield
        finally:
            sys.unraisablehook = previous


@contextlib.contextmanager
def deferred(act: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Call `act` on a signal inside the block, instead of raising within a queue, a lock or a library.

    Does nothing outside the main thread, which receives all signals.

    Args:
        act: Called with the signal, in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in ENDING}
    _handle(act)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Postpone signals to the end of the block, for work that must not be interrupted, such as starting a process."""
    arrived: list[signal.Signals] = []
    try:
        with deferred(arrived.append):
            yield
    finally:
        if arrived:
            signal.raise_signal(arrived[0])


def interrupted() -> bool:
    """Return whether a signal has arrived, so that the process is to end soon."""
    return _arrived is not None


def exit_code() -> int:
    """Return the exit code of an interrupted command, by convention 128 plus the signal: 130 for Ctrl-C."""
    return 128 + _last_signal()


def _last_signal() -> signal.Signals:
    return signal.SIGINT if _arrived is None else _arrived


def _signal_main_thread() -> None:
    if sys.platform == "win32":
        _thread.interrupt_main(_last_signal())
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, _last_signal())  # also out of a system call


def _handle(act: Callable[[signal.Signals], object]) -> None:
    def handler(number: int, _: FrameType | None) -> None:
        global _arrived
        _arrived = signal.Signals(number)
        act(_arrived)

    for number in ENDING:
        # An ignored SIGHUP is intended (nohup), whereas scripts ignore SIGINT in any background process.
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
