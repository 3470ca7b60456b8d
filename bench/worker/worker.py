"""The candidate's process: opens one candidate in a fresh interpreter, then calls and times it on request.

`CandidateProcess` starts it. Requests arrive as lines of JSON on standard input, and answers leave on the original
standard output with the request's number; arrays are passed in files. Anything else that is printed goes to standard
error.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...runtime.errors import MienError
from ...runtime.isolated import enter_isolation
from .candidate import Candidate, save_arrays
from .targets import Target

resource: Any
try:
    resource = importlib.import_module("resource")
except ModuleNotFoundError:  # on Windows
    resource = None


def main(begun_ns: int, answers_fd: int) -> None:
    """Serve requests until standard input ends.

    Args:
        begun_ns: Value of `time.perf_counter_ns` when the interpreter started.
        answers_fd: File descriptor for the answers.
    """
    answers = os.fdopen(answers_fd, "w", encoding="utf-8")
    enter_isolation()

    def answer(row: dict[str, Any]) -> None:
        answers.write(json.dumps(row) + "\n")
        answers.flush()

    candidate = Candidate.from_json(sys.stdin.readline())
    try:
        cv2.setNumThreads(candidate.threads)
        module, _, function = candidate.opener.partition(":")
        opener = getattr(importlib.import_module(module), function)
        imported_ns = time.perf_counter_ns()
        target: Target = opener(candidate)
        opened_ns = time.perf_counter_ns()
        answer(
            {
                "number": 0,
                "spec": None if target.spec is None else target.spec.to_json(),
                "provider": target.provider,
                "precision": None if target.precision is None else target.precision.value,
                "import_ns": imported_ns - begun_ns,
                "load_ns": opened_ns - imported_ns,
            }
        )
        for line in sys.stdin:
            request = json.loads(line)
            answer({"number": request.pop("number"), **serve(target, request)})
    except MienError as error:
        answer({"refused": str(error)})


def serve(target: Target, request: dict[str, Any]) -> dict[str, Any]:
    """Handle a request: the name of a handler under ``do``, with its arguments."""
    what = request.pop("do")
    return HANDLERS[what](target, **request)


def bind(target: Target, inputs_file: str | None) -> dict[str, Any]:
    """Set the inputs and make the first call."""
    arrays = {} if inputs_file is None else dict(np.load(inputs_file))
    digest, note = target.bind(arrays)
    (first_ns, *_) = target.time_calls(0, 1).calls_ns
    return {"digest": digest, "batch": target.batch, "note": note, "first_ns": first_ns}


def time_calls(target: Target, first: int, count: int) -> dict[str, Any]:
    """Prime the target, then time the calls of a round with the garbage collector off."""
    cpu_ns = time.process_time_ns()  # before priming, which would otherwise count as load by other processes
    gc.disable()
    try:
        calls = target.prime(first, count)
        preemptions = _preemptions()
        taken = target.time_calls(first, calls)
        used = {"cpu_ns": time.process_time_ns() - cpu_ns, "preemptions": _preemptions() - preemptions}
    finally:
        gc.enable()
    return asdict(taken) | used


def outputs(target: Target, batch: str, file: str) -> dict[str, Any]:
    """Run the model on images, in batches of the measured size, and write the outputs to a file."""
    images, size = np.load(batch), target.batch
    parts = []
    for first in range(0, len(images), size):
        part = images[first : first + size]
        missing = size - len(part)
        full = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
        parts.append({name: value[: len(part)] for name, value in target.outputs(full).items()})
    save_arrays(Path(file), {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    return {}


def memory(target: Target) -> dict[str, Any]:
    """Report the peak memory of this process in MiB."""
    return {"peak_mib": peak_mib()}


def overhead(target: Target) -> dict[str, Any]:
    """Measure the runner's overhead, and count the nodes that run on the provider."""
    return {"overhead_us": target.overhead_us(), "nodes": target.nodes()}


def run_for(target: Target, seconds: float) -> dict[str, Any]:
    """Call continuously for some seconds, while the parent reads the power."""
    begun, calls = time.perf_counter_ns(), 0
    while time.perf_counter_ns() - begun < seconds * 1e9:
        calls += len(target.time_calls(calls, 1).calls_ns)
    return {"calls": calls, "seconds": (time.perf_counter_ns() - begun) / 1e9}


HANDLERS: dict[str, Callable[..., dict[str, Any]]] = {
    "bind": bind,
    "time calls": time_calls,
    "outputs": outputs,
    "memory": memory,
    "overhead": overhead,
    "run for": run_for,
}


def peak_mib(*, root: Path = Path("/")) -> float | None:
    """Return the peak resident memory in MiB, libraries included.

    On Linux, getrusage will not do: its figure survives exec, so it would include the parent's peak.
    """
    with suppress(OSError):
        for line in (root / "proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _preemptions() -> int:
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
