"""Messages and progress on standard error, and the command to type when a training library is missing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import rich.progress
from rich.console import Console
from rich.table import Table

from ..errors import InputError, one_line

if TYPE_CHECKING:
    from ..values import Progress

TRAIN_LIBRARIES = ("torch", "torchvision", "onnx", "onnxscript", "matplotlib", "lightning_fabric")
REDRAW_S = 0.1
LINE_EVERY_S = 30.0
"""Seconds between two lines of progress where there is no terminal."""
stderr = Console(stderr=True, emoji=False)  # a name may contain :-1:


def say(text: str, *, style: str = "") -> None:
    """Print a one-line message on standard error; square brackets are text, not markup."""
    stderr.print(one_line(text), style=style, markup=False, highlight=False, soft_wrap=True)


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> None:
    """Print a table on standard output, 120 columns wide unless it is a terminal; square brackets are text.

    Args:
        title: Title of the table.
        head: Headings.
        rows: Cells of each row.
        words: Number of leading text columns, which are left-aligned; the others are right-aligned.
    """
    table = Table(title=title)
    for number, heading in enumerate(head):
        table.add_column(heading, justify="left" if number < words else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120, markup=False, emoji=False).print(table)


@contextlib.contextmanager
def progress_bar(title: str, *, hidden: bool = False) -> Iterator[Progress]:
    """Show progress and the remaining time on standard error, and yield the callback that advances it.

    On a terminal it is a bar, elsewhere a line every `LINE_EVERY_S`. The callback itself redraws the bar; a refresh
    thread would run inside timed calls.

    Args:
        title: Label of the bar.
        hidden: Show nothing.
    """
    drawn_s = said_s = time.monotonic()
    first: tuple[float, int] | None = None
    bar = rich.progress.Progress(
        console=stderr,
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        disable=hidden or not stderr.is_terminal,
    )
    with contextlib.nullcontext() if bar.disable else bar:  # older versions of rich end a disabled bar with a line
        task = bar.add_task(title, total=None)
        bar.refresh()

        def advance(done: int, total: int) -> None:
            nonlocal drawn_s, said_s, first
            now_s = time.monotonic()
            first_s, first_done = first = first or (now_s, done)  # an earlier run may have done a part
            if bar.disable and not hidden and now_s - said_s >= LINE_EVERY_S and first_done < done < total:
                remaining_s = (now_s - first_s) * (total - done) / (done - first_done)
                say(f"{title}: {done} of {total} done, about {describe_duration(remaining_s)} left")
                said_s = now_s
            due = done == total or now_s - drawn_s >= REDRAW_S
            drawn_s = now_s if due else drawn_s
            bar.update(task, completed=done, total=total, refresh=due)

        yield advance


def describe_duration(seconds: float) -> str:
    """Return a duration in its largest unit, such as ``3 min``."""
    for unit, size_s in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size_s:
            return f"{seconds / size_s:.0f} {unit}"
    return f"{seconds:.0f} s"


@contextlib.contextmanager
def require_train_extra() -> Iterator[None]:
    """Turn the failed import of a training library into an error with the command that installs it.

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
