"""Candidates in processes of their own: what one of them does to itself or to its memory does not reach the others."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from mien.bench.timing.interleave import TimedCalls
from mien.bench.worker.candidate import Job
from mien.runtime.errors import ProcessFailed
from mien.runtime.models.spec import ModelSpec, Precision
from mien.runtime.values import FloatArray, Image

DEFAULT_TIMEOUT_S = 300.0
SYSTEM_ALLOCATOR = "the system's own allocator"
GLIBC_KEEPS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""Environment of every candidate: memory that glibc's malloc was given back is not returned to the system.

By default it is, or not, as the heap happens to lie: eager PyTorch's large tensors then cost thousands of page faults a
call in one process and none in the next. It gains from this, ONNX Runtime has an arena of its own.
"""
_BEGIN = """\
import time
begun = time.perf_counter_ns()
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from mien.bench.worker.worker import main
main(begun)
"""


class FailureKind(str, Enum):
    """How a process was lost."""

    REFUSED = "refused"
    CRASHED = "crashed"
    HUNG = "hung"
    OUT_OF_MEMORY = "out of memory"


class CandidateFailed(ProcessFailed):
    """A `ProcessFailed` that says how."""

    def __init__(self, failure: FailureKind, reason: str) -> None:
        super().__init__(f"{failure.value}: {reason}")
        self.failure = failure
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Opened:
    """What a process says of its candidate once it is open. import_ms: of mien and what runs the model."""

    spec: ModelSpec | None
    provider: str
    precision: Precision | None
    import_ms: float
    load_ms: float


@dataclass(frozen=True, slots=True)
class Bound:
    """What a process says of its inputs, how many a call really takes, and how long its first call took."""

    digest: str
    batch: int
    note: str
    first_ms: float


class CandidateProcess:
    """One candidate in a process of its own, with a fresh interpreter.

    It has a session of its own too, so that Ctrl-C reaches only who holds it. Every method but `close` raises
    `CandidateFailed` when the process is gone or does not answer within `timeout_s`; it is ended then.
    """

    def __init__(self, job: Job, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.job = job
        self._timeout_s = timeout_s
        self._folder = tempfile.TemporaryDirectory(prefix="mien-bench-", ignore_cleanup_errors=True)
        self._errors = tempfile.TemporaryFile()
        self._answers: queue.Queue[str] = queue.Queue()
        self._waiting = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BEGIN, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(job.threads),
            text=True,
            encoding="utf-8",
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def open(self) -> Opened:
        """Import and load, timed."""
        row = self._ask_line(self.job.to_json())
        return Opened(
            spec=None if row["spec"] is None else ModelSpec.from_json(row["spec"], origin=self.job.path),
            provider=row["provider"],
            precision=None if row["precision"] is None else Precision(row["precision"]),
            import_ms=row["import_ns"] / 1e6,
            load_ms=row["load_ns"] / 1e6,
        )

    def bind(self, material: Path | None) -> Bound:
        """Give it its inputs, an .npz file, and let it make its first call."""
        row = self._ask(do="bind", material=None if material is None else str(material))
        return Bound(row["digest"], row["batch"], row["note"], row["first_ns"] / 1e6)

    def time_calls(self, first: int, count: int) -> TimedCalls:
        """See `CallTimer`."""
        row = self._ask(do="turn", first=first, count=count)
        stages = {name: tuple(values) for name, values in row.pop("stages_ns").items()}
        calls, device = tuple(row.pop("calls_ns")), tuple(row.pop("device_ns"))
        return TimedCalls(calls_ns=calls, device_ns=device, stages_ns=stages, **row)

    def outputs(self, batch: Image) -> dict[str, FloatArray]:
        """What the model answers to images (n, h, w, 3) uint8 BGR, run in the batches that it is measured with."""
        given, made = Path(self._folder.name) / "batch.npy", Path(self._folder.name) / "outputs.npz"
        np.save(given, batch)
        self._ask(do="outputs", batch=str(given), file=str(made))
        with np.load(made) as arrays:
            return dict(arrays)

    def peak_mib(self) -> float | None:
        """The most memory that it ever had."""
        peak: float | None = self._ask(do="memory")["peak_mib"]
        return peak

    def overhead(self) -> tuple[tuple[float, float] | None, tuple[int, int] | None]:
        """See `Target.overhead_us` and `Target.nodes`."""
        row = self._ask(do="overhead")
        cost, nodes = row["overhead_us"], row["nodes"]
        return None if cost is None else tuple(cost), None if nodes is None else tuple(nodes)

    def start_running(self, seconds: float) -> None:
        """Let it call without a pause; `calls_run` waits for the end."""
        self._send(json.dumps({"do": "run for", "seconds": seconds}))

    def calls_run(self) -> tuple[int, float]:
        """How many calls `start_running` made, and in how many seconds."""
        row = self._receive()
        return row["calls"], row["seconds"]

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def close(self) -> None:
        """End the process, however busy it is."""
        self._kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                _close_quietly(pipe)
        self._errors.close()
        self._folder.cleanup()

    def __enter__(self) -> CandidateProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _kill(self) -> None:
        """End it with whatever it has started, as torch.compile does its compilers."""
        if self._process.poll() is not None:
            return  # its number may be another's by now
        if sys.platform == "win32":
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # gone already
                os.killpg(self._process.pid, signal.SIGKILL)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._answers.put(line)
        except ValueError:  # closed meanwhile
            pass
        self._answers.put("")

    def _ask(self, **request: Any) -> dict[str, Any]:
        return self._ask_line(json.dumps(request))

    def _ask_line(self, line: str) -> dict[str, Any]:
        while self._waiting:  # an answer that an interrupt kept from being read
            self._receive()
        self._send(line)
        return self._receive()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._failed() from None
        self._waiting += 1

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=self._timeout_s)
        except queue.Empty:
            self._kill()
            raise CandidateFailed(FailureKind.HUNG, f"no answer within {self._timeout_s:g} s; it was ended") from None
        self._waiting -= 1
        if not line:
            raise self._failed()
        row: dict[str, Any] = json.loads(line)
        if "refused" in row:
            raise CandidateFailed(FailureKind.REFUSED, row["refused"])
        return row

    def _failed(self) -> CandidateFailed:
        self._answers.put("")  # whoever asks again learns it again
        code = self._process.wait()
        self._errors.seek(0)
        return failure_of(code, last_words(self._errors.read().decode("utf-8", "replace")))


def last_words(text: str) -> str:
    """The line of a standard error that names the error: below the frames of the last traceback, else the last one."""
    lines = [line for line in text.splitlines() if line.strip()]
    _, found, rest = "\n".join(lines).rpartition("Traceback (most recent call last):\n")
    named = [line for line in rest.splitlines() if found and not line.startswith(" ")]
    return (named or lines[-1:] or [""])[0].strip()


def failure_of(code: int, said: str) -> CandidateFailed:
    """What became of a process, by its exit code and the last line that it said."""
    if code < 0 and hasattr(signal, "SIGKILL") and -code == signal.SIGKILL:
        return CandidateFailed(FailureKind.OUT_OF_MEMORY, "killed (SIGKILL), as the kernel does when memory runs out")
    if ran_out_of_memory(said):
        return CandidateFailed(FailureKind.OUT_OF_MEMORY, said[:300])
    said = said[:300]
    if code < 0:
        return CandidateFailed(
            FailureKind.CRASHED, f"ended by {signal.Signals(-code).name}" + (f" ({said})" if said else "")
        )
    return CandidateFailed(FailureKind.CRASHED, said or f"exit code {code}")


def ran_out_of_memory(said: str) -> bool:
    """Whether an error says so: Python's, C++'s, PyTorch's or ONNX Runtime's."""
    return any(sign in said for sign in ("MemoryError", "bad_alloc", "out of memory", "Failed to allocate memory"))


class RemoteRunner:
    """A `Runner` whose model runs in a `CandidateProcess`: parity and accuracy of the very thing that is timed."""

    def __init__(self, process: CandidateProcess, opened: Opened) -> None:
        if opened.spec is None or opened.precision is None:
            raise ValueError("wanted a model of mien, found one without a spec")
        self._process = process
        self.spec = opened.spec
        self.provider = opened.provider
        self.precision = opened.precision

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        """Run a batch (b, h, w, 3) uint8 BGR; see `Runner`."""
        return self._process.outputs(batch)

    def close(self) -> None:
        """The process is closed by who opened it."""

    def __enter__(self) -> RemoteRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _environment(threads: int) -> Mapping[str, str]:
    """Of the child: every library's threads are as many as were asked for, and glibc keeps its memory."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    kept = {name: str(1 << 30) for name in GLIBC_KEEPS}
    return {**kept, **os.environ, **{name: str(threads) for name in names if threads}}


def allocator() -> str:
    """How a candidate's memory is kept, in words."""
    if platform.libc_ver()[0] != "glibc":
        return SYSTEM_ALLOCATOR
    own = [f"{name}={os.environ[name]}" for name in ("LD_PRELOAD", *GLIBC_KEEPS) if name in os.environ]
    return f"glibc with {' '.join(own)}" if own else "glibc that keeps its memory"


def _close_quietly(pipe: Any) -> None:
    with contextlib.suppress(OSError):  # its other end is gone, with what was left in it
        pipe.close()
