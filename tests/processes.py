"""Start processes that end with their test, wait for what they do, and find those that are left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

MARKER = "MIEN_TESTS"
"""Environment variable that holds the process id of pytest: a process that has lost its parent is found by it."""
MIEN = [sys.executable, "-m", "mien.cli"]


@contextmanager
def started(*command: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a session of its own; what still runs of it at the end is killed."""
    arguments = [str(one) for one in command]
    with subprocess.Popen(arguments, text=True, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds; fail where it does not in time."""
    deadline, pause_s = time.monotonic() + seconds, 0.0005
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.02)


def descendants(pid: int) -> dict[int, str]:
    """Names of all running processes below one."""
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = entry.read_text(errors="replace")
        except OSError:
            continue
        own, name, state, parent = re.match(r"(\d+) \((.*)\) (\S) (\d+)", text, re.DOTALL).groups()
        if state != "Z":
            parents[int(own)], names[int(own)] = int(parent), name
    below = {pid}
    while more := {own for own, parent in parents.items() if parent in below} - below:
        below |= more
    return {own: names[own] for own in below if own != pid}


def started_by_tests() -> dict[int, str]:
    """Command lines of the running processes that tests of this process have started, orphans included."""
    marker, below, found = f"{MARKER}={os.getpid()}".encode(), descendants(os.getpid()), {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if int(folder.name) in below or marker in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(folder.name)] = command.decode(errors="replace")
    # multiprocessing's resource tracker ends with pytest.
    return {pid: command for pid, command in found.items() if command and "resource_tracker" not in command}
