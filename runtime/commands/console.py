"""Messages and progress on standard error, and the command to type when a training library is missing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import rich.progress
from rich.console import Console

from ..errors import InputError, one_line

if TYPE_CHECKING:
    from ..values import Progress

TRAIN_LIBRARIES = ("torch", "torchvision", "onnx", "onnxscript", "matplotlib", "lightning_fabric")
REDRAW_S = 0.1
stderr = Console(stderr=True)


def say(text: str, *, style: str = "") -> None:
    """Print a message of one line on standard error; square brackets are text, not markup."""
    stderr.print(one_line(text), style=style, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress_bar(title: str, *, hidden: bool = False) -> Iterator[Progress]:
    """Show a progress bar if standard error is a terminal, and yield the callback that advances it.

    The callback itself redraws the bar; a refresh thread would run inside timed calls.

    Args:
        title: Label of the bar.
        hidden: Show nothing.
    """
    drawn_s = time.monotonic()
    with rich.progress.Progress(
        console=stderr,
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        disable=hidden or not stderr.is_terminal,
    ) as bar:
        task = bar.add_task(title, total=None)
        bar.refresh()

        def advance(done: int, total: int) -> None:
            nonlocal drawn_s
            due = done == total or time.monotonic() - drawn_s >= REDRAW_S
            drawn_s = time.monotonic() if due else drawn_s
            bar.update(task, completed=done, total=total, refresh=due)

        yield advance


@contextlib.contextmanager
def require_train_extra() -> Iterator[None]:
    """Turn the failed import of a training library into the command that installs it.

    Raises:
        InputError: A library of the extra ``train`` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] not in TRAIN_LIBRARIES:
            raise
        raise InputError(
            f"this needs {missing.name}, which is not installed; run: pip install 'mien[train]'"
        ) from missing
