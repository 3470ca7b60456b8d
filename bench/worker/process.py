"""Runs a candidate in a separate process."""

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
import time
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.errors import ProcessFailed
from ...runtime.interrupts import postponed
from ...runtime.isolated import end_of, error_line, python_command, ran_out_of_memory, was_killed
from ...runtime.models.spec import ModelSpec, Precision
from ...runtime.values import FloatArray, Image
from ..timing.interleave import TimedCalls
from .candidate import Candidate

KEPT_ERRORS = 1 << 16
"""Number of bytes kept from the end of standard error."""
END_S = 5.0
"""Time for a process to exit after closing its output."""
SYSTEM_ALLOCATOR = "the system's own allocator"
GLIBC_KEEPS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""Environment variables that make glibc's malloc keep freed memory instead of returning it to the system.

By default, what malloc returns depends on the accidental layout of the heap: large tensors in eager PyTorch cost
thousands of page faults per call in one process, and none in the next. The setting favours PyTorch; ONNX Runtime has
an arena of its own.
"""
_BEGIN = """\
import time
begun = time.perf_counter_ns()
import os
answers = os.dup(1)
os.dup2(2, 1)  # before a library prints
from mien.bench.worker.worker import main
main(begun, answers)
"""


class FailureKind(str, Enum):
    """How a process failed."""

    REFUSED = "refused"
    CRASHED = "crashed"
    HUNG = "hung"
    OUT_OF_MEMORY = "out of memory"


class CandidateFailed(ProcessFailed):
    """A `ProcessFailed` with the kind of failure."""

    def __init__(self, failure: FailureKind, reason: str) -> None:
        super().__init__(f"{failure.value}: {reason}")
        self.failure = failure
        self.reason = reason


class CandidateProcess:
    """A candidate in a separate process with a fresh interpreter.

    The process runs in a session of its own, so that Ctrl-C reaches only the parent. All methods except `close` raise
    `CandidateFailed` if the process has ended, or does not answer within `timeout_s` and is killed.

    Args:
        candidate: Candidate to open.
        timeout_s: Seconds from a request to its answer.

    Attributes:
        candidate: Candidate to open.
        opened: Whether it is open, so that what follows is known.
        spec: The model's spec, known after `open`; None for a foreign model or a pipeline.
        provider: The actual provider, known after `open`.
        precision: Precision of the computation, known after `open`; None if unknown.
        batch: Images per call; for a foreign model known after `bind`.
        inputs_digest: Digest of the inputs, known after `bind`.
        inputs_note: Note on the inputs for the report; usually empty.
        import_ms: Time to import mien and the runtime library.
        load_ms: Time to load the model.
        first_ms: Time of the first call.
    """

    def __init__(self, candidate: Candidate, *, timeout_s: float = 300.0) -> None:
        self.candidate = candidate
        self.opened = False
        self.spec: ModelSpec | None = None
        self.provider = candidate.device
        self.precision: Precision | None = None
        self.batch = candidate.batch
        self.inputs_digest = self.inputs_note = ""
        self.import_ms = self.load_ms = self.first_ms = 0.0
        self._timeout_s = timeout_s
        self._deadline = 0.0
        self._errors = b""
        self._answers: queue.Queue[str] = queue.Queue()
        self._number = 0
        self._process = subprocess.Popen(
            python_command(_BEGIN),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(candidate.threads),
            text=True,
            encoding="utf-8",
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # its equivalent on Windows
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self._error_reader = threading.Thread(target=self._keep_errors, daemon=True)
        self._error_reader.start()
        with contextlib.suppress(CandidateFailed):  # `open` raises it
            self._send_line(candidate.to_json())

    def open(self) -> None:
        """Wait until the process, begun at once, has imported the libraries and loaded the model, timing both."""
        row = self._receive()
        self.opened = True
        if row["spec"] is not None:
            self.spec = ModelSpec.from_json(row["spec"], origin=str(self.candidate.path))
        self.provider = row["provider"]
        self.precision = None if row["precision"] is None else Precision(row["precision"])
        self.import_ms, self.load_ms = row["import_ns"] / 1e6, row["load_ns"] / 1e6

    def bind(self, inputs_file: Path | None) -> None:
        """Pass the inputs, an .npz file, and make the first call."""
        self.start_binding(inputs_file)
        self.wait_until_bound()

    def start_binding(self, inputs_file: Path | None) -> None:
        """Pass the inputs, and begin the first call; `wait_until_bound` waits for its end."""
        self._send(do="bind", inputs_file=None if inputs_file is None else str(inputs_file))

    def wait_until_bound(self) -> None:
        """Wait for the first call to end."""
        row = self._receive()
        self.inputs_digest, self.batch, self.inputs_note = row["digest"], row["batch"], row["note"]
        self.first_ms = row["first_ns"] / 1e6

    @property
    def cold_start_ms(self) -> tuple[float, float, float]:
        """Times of import, load and first call."""
        return self.import_ms, self.load_ms, self.first_ms

    def time_calls(self, first: int, count: int) -> TimedCalls:
        """See `CallTimer`."""
        row = self._ask(do="time calls", first=first, count=count)
        stages = {name: tuple(values) for name, values in row.pop("stages_ns").items()}
        calls, device = tuple(row.pop("calls_ns")), tuple(row.pop("device_ns"))
        return TimedCalls(calls_ns=calls, device_ns=device, stages_ns=stages, **row)

    def outputs(self, batch: Image) -> dict[str, FloatArray]:
        """Run the model on images (n, h, w, 3) uint8 BGR, in batches of the measured size."""
        with tempfile.TemporaryDirectory(prefix="mien-bench-", ignore_cleanup_errors=True) as folder:
            given, made = Path(folder) / "batch.npy", Path(folder) / "outputs.npz"
            np.save(given, batch)
            self._ask(do="outputs", batch=str(given), file=str(made))
            with np.load(made) as arrays:
                return dict(arrays)

    def peak_mib(self) -> float | None:
        """Return the peak resident memory in MiB; None if the system does not report it."""
        peak: float | None = self._ask(do="memory")["peak_mib"]
        return peak

    def overhead(self) -> tuple[tuple[float, float] | None, tuple[int, int] | None]:
        """Return `Target.overhead_us` and `Target.nodes`."""
        row = self._ask(do="overhead")
        overhead_us, nodes = row["overhead_us"], row["nodes"]
        return None if overhead_us is None else tuple(overhead_us), None if nodes is None else tuple(nodes)

    def start_running(self, seconds: float) -> None:
        """Start to call continuously for some seconds; `calls_run` waits for the end."""
        self._send(do="run for", seconds=seconds)

    def calls_run(self) -> tuple[int, float]:
        """Wait for `start_running` to end; return its number of calls and its duration in s."""
        row = self._receive()
        return row["calls"], row["seconds"]

    def close(self) -> None:
        """Kill the process, even during a call."""
        self._kill()
        self._process.wait()
        self._error_reader.join(END_S)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            with contextlib.suppress(OSError):  # the other end is gone
                pipe.close()

    def __enter__(self) -> CandidateProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _kill(self) -> None:
        """Kill the process and its children, such as compilers started by torch.compile."""
        if self._process.poll() is not None:
            return  # its id may already be in use again
        if sys.platform == "win32":
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # already gone
                os.killpg(self._process.pid, signal.SIGKILL)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._answers.put(line)
        except ValueError:  # closed concurrently
            pass
        self._answers.put("")

    def _keep_errors(self) -> None:
        """Keep only the end of standard error, however much is printed."""
        assert self._process.stderr is not None
        while chunk := os.read(self._process.stderr.fileno(), KEPT_ERRORS):
            self._errors = (self._errors + chunk)[-KEPT_ERRORS:]

    def _ask(self, **request: Any) -> dict[str, Any]:
        self._send(**request)
        return self._receive()

    def _send(self, **request: Any) -> None:
        self._number += 1
        self._send_line(json.dumps({"number": self._number, **request}))

    def _send_line(self, line: str) -> None:
        assert self._process.stdin is not None
        self._deadline = time.monotonic() + self._timeout_s
        try:
            with postponed():  # half a line would spoil the next
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._failed() from None

    def _receive(self) -> dict[str, Any]:
        """Wait for the answer to the last request; an interrupt may have left those to earlier ones unread."""
        while True:
            try:
                line = self._answers.get(timeout=max(0.0, self._deadline - time.monotonic()))
            except queue.Empty:
                self._kill()
                reason = f"no answer within {self._timeout_s:g} s; it was killed"
                raise CandidateFailed(FailureKind.HUNG, reason) from None
            if not line.endswith("\n"):  # it ended, perhaps in the middle of a line
                raise self._failed()
            row: dict[str, Any] = json.loads(line)
            if "refused" in row:
                raise CandidateFailed(FailureKind.REFUSED, row["refused"])
            if row.pop("number") == self._number:
                return row

    def _failed(self) -> CandidateFailed:
        self._answers.put("")  # so that the next request fails at once too
        try:
            code = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._kill()
            return CandidateFailed(FailureKind.CRASHED, "it closed its output without an answer; it was killed")
        self._error_reader.join(END_S)
        return failure_of(code, error_line(self._errors.decode("utf-8", "replace")))


def failure_of(code: int, line: str) -> CandidateFailed:
    """Classify a failure by the exit code and the line that names the error."""
    if was_killed(code):
        return CandidateFailed(FailureKind.OUT_OF_MEMORY, "killed (SIGKILL), as the kernel does when memory runs out")
    if ran_out_of_memory(line):
        return CandidateFailed(FailureKind.OUT_OF_MEMORY, line)
    return CandidateFailed(FailureKind.CRASHED, end_of(code, line))


def _environment(threads: int) -> Mapping[str, str]:
    """Return environment variables that set the threads of all libraries, and make glibc keep freed memory."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    allocator_settings = {name: str(1 << 30) for name in GLIBC_KEEPS}
    return {**allocator_settings, **os.environ, **{name: str(threads) for name in names if threads}}


def allocator() -> str:
    """Describe the candidates' memory allocator."""
    if platform.libc_ver()[0] != "glibc":
        return SYSTEM_ALLOCATOR
    own = [f"{name}={os.environ[name]}" for name in ("LD_PRELOAD", *GLIBC_KEEPS) if name in os.environ]
    return f"glibc with {' '.join(own)}" if own else "glibc that keeps its memory"
