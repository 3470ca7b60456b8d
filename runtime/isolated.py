"""Turns native crashes into errors by calling functions in a separate process."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import MienError, ProcessFailed

PR_SET_PDEATHSIG = 1
"""Option of prctl(2)."""
_entered = False


def python_command(code: str) -> list[str]:
    """Return a command that runs code in a fresh interpreter with this one's search path for modules.

    Nothing is imported before that path is set, since `python -c` would look in the working directory first.
    """
    entries = [entry for entry in sys.path if isinstance(entry, str)]
    return [sys.executable, "-c", f"import sys\nsys.path[:] = sys.argv[1:]\n{code}", *entries]


def call_isolated(function: Callable[..., Any], *args: Any, doing: str, hint: str) -> Any:
    """Call a function of a module in a fresh interpreter, and return its result.

    Where `sys.executable` is not Python but a program that contains it, the function is called in this process.

    Args:
        function: Function at the top level of a module.
        args: Its arguments; they and the result must be picklable.
        doing: Activity for the message, such as ``opening small.onnx``.
        hint: What the user can do about a crash.

    Raises:
        MienError: The function raised it.
        OSError: The function raised it, or the process cannot be started.
        MemoryError: The process was killed, or found no memory.
        ProcessFailed: The process ended in any other way, such as by SIGSEGV.
    """
    if not _has_interpreter():
        return function(*args)
    request = pickle.dumps((function, args))
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(
            python_command("from mien.runtime.isolated import serve\nserve()"),
            input=request,
            stdout=subprocess.PIPE,
            stderr=errors,
            check=False,
        )
        errors.seek(0)
        line = error_line(errors.read().decode("utf-8", "replace"))
    if done.returncode == 0 and done.stdout:
        result, error = pickle.loads(done.stdout)
        if error is not None:
            raise error
        return result
    if was_killed(done.returncode) or ran_out_of_memory(line):
        raise MemoryError(f"while {doing}")
    raise ProcessFailed(f"crashed while {doing} ({end_of(done.returncode, line)}); {hint}")


def _has_interpreter() -> bool:
    name = Path(sys.executable or "").name.lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def serve() -> None:
    """Serve `call_isolated` in the child; the answer goes to the pipe, and anything printed to standard error."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    enter_isolation()
    function, args = pickle.load(sys.stdin.buffer)
    result, raised = None, None
    try:
        result = function(*args)
    except (MienError, MemoryError, OSError) as error:
        raised = error
    answer.write(pickle.dumps((result, raised)))
    answer.flush()
    os._exit(0)  # some libraries crash while being unloaded


def enter_isolation() -> None:
    """Make this process expendable: killed first if memory runs out, killed with its parent, and without core file."""
    global _entered
    _entered = True
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))  # even during a call
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def is_isolated() -> bool:
    """Return whether this process is an isolated one."""
    return _entered


def error_line(text: str) -> str:
    """Return the line of a process's standard error that names the error."""
    lines = [line for line in text.splitlines() if line.strip()]
    _, found, rest = "\n".join(lines).rpartition("Traceback (most recent call last):\n")
    named = [line for line in rest.splitlines() if found and not line.startswith(" ")]
    if len(named) > 1 and named[0].endswith(":"):  # such as "BackendCompilerFailed: … raised:", then what was raised
        named = [f"{named[0]} {named[1]}"]
    return (named or lines[-1:] or [""])[0].strip()[:300]


def was_killed(code: int) -> bool:
    """Return whether an exit code is SIGKILL's, as when the kernel runs out of memory."""
    return hasattr(signal, "SIGKILL") and code == -signal.SIGKILL


def ran_out_of_memory(line: str) -> bool:
    """Return whether an error of Python, C++, PyTorch or ONNX Runtime says that memory ran out."""
    signs = ("MemoryError", "bad_alloc", "out of memory", "Failed to allocate memory", "can't allocate memory")
    return any(sign in line for sign in signs)


def end_of(code: int, line: str) -> str:
    """Describe how a process ended, by its exit code and the line that names its error."""
    if code >= 0:
        return line or f"exit code {code}"
    return f"ended by {signal.Signals(-code).name}" + (f" ({line})" if line else "")
