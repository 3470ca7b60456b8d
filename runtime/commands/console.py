"""Messages and progress on standard error, and the command to run when a training library is missing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import rich.progress
from rich.console import Console

from mien.runtime.errors import InputError
from mien.runtime.values import Progress

stderr = Console(stderr=True)

REDRAW_S = 0.1


def say(text: str, *, style: str = "") -> None:
    """Tell people something, on standard error; square brackets are text, not markup."""
    stderr.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress_bar(title: str, *, hidden: bool = False) -> Iterator[Progress]:
    """Show a progress bar on a terminal (standard error), and yield the callback that moves it.

    The bar is drawn in that callback, never by a thread of its own, which would run inside timed calls.
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

        def move(done: int, total: int) -> None:
            nonlocal drawn_s
            due = done == total or time.monotonic() - drawn_s >= REDRAW_S
            drawn_s = time.monotonic() if due else drawn_s
            bar.update(task, completed=done, total=total, refresh=due)

        yield move


@contextlib.contextmanager
def needs_torch() -> Iterator[None]:
    """Turn a missing training library into the line to type."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] not in {
            "torch",
            "torchvision",
            "onnx",
            "onnxscript",
            "matplotlib",
            "plotly",
            "lightning_fabric",
        }:
            raise
        raise InputError(
            f"this needs {missing.name}, which is not installed; run: pip install 'mien[train]'"
        ) from missing
