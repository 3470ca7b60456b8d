"""Signals that end a command. Ctrl-C, SIGTERM and SIGHUP all raise KeyboardInterrupt, so that files are left whole."""

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
"""Delay of an interrupt that Python has dropped."""
_arrived = signal.SIGINT
"""Last signal that arrived."""


def leave_at_once() -> None:
    """Have signals end the process without a word, for as long as no command runs; SIGHUP stays ignored under nohup."""
    _handle(lambda number: os._exit(128 + number))


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Have every signal that ends a process raise KeyboardInterrupt inside the block.

    Python drops an exception that is raised within a destructor, or a callback of a weak reference or of C: then the
    signal is repeated.
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
    """Call `act` for a signal inside the block, where an exception could strike inside a queue, a lock or a library.

    Does nothing outside of the main thread, which receives all signals.

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
    """Postpone signals to the end of the block, for what must not be left half done, such as starting a process."""
    arrived: list[signal.Signals] = []
    try:
        with deferred(arrived.append):
            yield
    finally:
        if arrived:
            signal.raise_signal(arrived[0])


def exit_code() -> int:
    """Return the exit code of a command that was interrupted, by convention 128 and the signal: 130 for Ctrl-C."""
    return 128 + _arrived


def _signal_main_thread() -> None:
    if sys.platform == "win32":
        _thread.interrupt_main(_arrived)
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, _arrived)  # also out of a system call


def _handle(act: Callable[[signal.Signals], object]) -> None:
    def handler(number: int, _: FrameType | None) -> None:
        global _arrived
        _arrived = signal.Signals(number)
        act(_arrived)

    for number in ENDING:
        # Who ignores SIGHUP (nohup) means it; SIGINT is ignored in the background of any script.
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
