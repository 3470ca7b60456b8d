"""Times several candidates in interleaved rounds on the same real inputs, keeping all raw values."""

from __future__ import annotations

import gc
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy.typing as npt

from ...runtime.errors import InputError, ProcessFailed
from ...runtime.values import Image, Progress
from ...runtime.wording import counted
from .measurement import Description, Measurement, ProcessRun

log = logging.getLogger("mien")

WARM_UP_CALLS = 200
"""Maximum number of warm-up calls."""
WINDOW = 5
WINDOWS = 3
SETTLED = 1.05
"""A warm-up ends once the medians of its last `WINDOWS` windows of `WINDOW` calls lie within this factor."""


@dataclass(frozen=True, slots=True)
class LocalCandidate:
    """A callable to time in this process.

    Attributes:
        description: What is measured; its measurement adds the digest of the inputs.
        inputs: Real batches (b, h, w, 3) uint8 BGR, which calls cycle through; candidates to compare share them.
        call: Takes one of the inputs, and returns once the result is available, not merely queued.
    """

    description: Description
    inputs: Sequence[Image]
    call: Callable[[Image], object]


@dataclass(frozen=True, slots=True)
class TimedCalls:
    """A candidate's calls in one round.

    Attributes:
        calls_ns: Latency of each call.
        device_ns: Latency of the same calls by the device's own clock; empty if it has none.
        stages_ns: Durations by stage, for a pipeline.
        cpu_ns: Processor time of the process, including priming.
        preemptions: Number of times that the operating system preempted the process.
    """

    calls_ns: tuple[int, ...]
    device_ns: tuple[int, ...] = ()
    stages_ns: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    cpu_ns: int = 0
    preemptions: int = 0


class CallTimer(Protocol):
    """A target of timing: a callable in this process, or another process."""

    def time_calls(self, first: int, count: int) -> TimedCalls:
        """Time calls; call i takes input i modulo the number of inputs.

        Args:
            first: Number of the first call.
            count: Number of calls.

        Raises:
            ProcessFailed: The process ended or hung.
        """
        ...


class DeviceClock(Protocol):
    """A device's own clock, such as CUDA events; it times the work queued between start and stop."""

    def start(self) -> None:
        """Mark the start in the device's queue."""
        ...

    def stop_ns(self) -> int:
        """Mark the end, wait for it, and return the time since the start."""
        ...


def digest_of(inputs: Sequence[npt.NDArray[Any]]) -> str:
    """Return a digest of arrays, including their order and shapes."""
    digest = hashlib.sha256()
    for batch in inputs:
        digest.update(repr(batch.shape).encode())
        digest.update(batch.tobytes())
    return digest.hexdigest()[:16]


def measure_interleaved(
    candidates: Sequence[LocalCandidate],
    *,
    rounds: int,
    calls_per_round: int,
    warm_up_calls: int = WARM_UP_CALLS,
    clock: Callable[[], int] = time.perf_counter_ns,
    progress: Progress | None = None,
) -> list[Measurement]:
    """Measure candidates in this process in rounds (A B C A B C …), so that drift affects them all alike.

    Ctrl-C during the rounds stops the run; completed rounds are returned, if any.

    Args:
        candidates: Candidates to measure.
        rounds: Number of rounds.
        calls_per_round: Calls of each candidate per round.
        warm_up_calls: Maximum number of warm-up calls; the warm-up ends earlier once the latencies have settled.
        clock: Reads the time in ns.
        progress: Called after each round with (rounds done, rounds).

    Raises:
        InputError: There is no candidate or no input, an image has a single value, a batch has the wrong size, or a
            count is invalid.
    """
    check_counts(rounds=rounds, calls_per_round=calls_per_round)
    _check_candidates(candidates)
    for candidate in candidates:
        _check_inputs(candidate)
    timers = {c.description.name: _LocalTimer(c, clock) for c in candidates}
    collecting = gc.isenabled()
    gc.disable()  # a collection would count towards whichever candidate it interrupts
    try:
        warm_ups = {name: warm_up(timer, limit=warm_up_calls) for name, timer in timers.items()}
        done = interleave(timers, rounds=rounds, calls_per_round=calls_per_round, progress=progress)
    finally:
        if collecting:
            gc.enable()
    return [
        Measurement(
            replace(c.description, inputs_digest=digest_of(c.inputs)), (process_run(warm_ups[name], done.rounds[name]),)
        )
        for name, c in zip(timers, candidates, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _LocalTimer:
    candidate: LocalCandidate
    clock: Callable[[], int]

    def time_calls(self, first: int, count: int) -> TimedCalls:
        """See `CallTimer`."""
        inputs, call = self.candidate.inputs, self.candidate.call
        return time_calls(lambda i: call(inputs[i % len(inputs)]), first=first, count=count, clock=self.clock)


@dataclass(frozen=True, slots=True)
class Rounds:
    """Outcome of interleaved rounds.

    Attributes:
        rounds: Calls of each round, by the name of each candidate that did not fail.
        failed: Error of each failed candidate, by name.
        interrupted: Whether Ctrl-C stopped the rounds.
    """

    rounds: Mapping[str, tuple[TimedCalls, ...]]
    failed: Mapping[str, ProcessFailed]
    interrupted: bool


def interleave(
    timers: Mapping[str, CallTimer],
    *,
    rounds: int,
    calls_per_round: int,
    before: int = 0,
    progress: Progress | None = None,
) -> Rounds:
    """Time candidates in rounds, one after the other; rounds continue without candidates that failed.

    Ctrl-C stops the rounds. Completed rounds are returned; if there are none, KeyboardInterrupt propagates.

    Args:
        timers: Candidates by name, in the order of a round.
        rounds: Number of rounds.
        calls_per_round: Calls of each candidate per round.
        before: Rounds timed in earlier processes; the inputs continue from there.
        progress: Called after each round with (rounds done, rounds).
    """
    done: list[dict[str, TimedCalls]] = []
    failed: dict[str, ProcessFailed] = {}
    interrupted = False
    try:
        for i in range(rounds):
            # Rounds are added whole, so that an interrupt leaves every candidate with the same number.
            taken: dict[str, TimedCalls] = {}
            for name, timer in timers.items():
                if name not in failed:
                    try:
                        taken[name] = timer.time_calls((before + i) * calls_per_round, calls_per_round)
                    except ProcessFailed as error:
                        failed[name] = error
            if len(failed) == len(timers):
                break
            done.append(taken)
            if progress is not None:
                progress(len(done), rounds)
    except KeyboardInterrupt:
        if not done:
            raise
        interrupted = True
        log.warning("interrupted: kept the %d of %d rounds that are complete", len(done), rounds)
    kept = [name for name in timers if name not in failed]
    return Rounds({name: tuple(one_round[name] for one_round in done) for name in kept}, failed, interrupted)


def warm_up(timer: CallTimer, *, limit: int = WARM_UP_CALLS) -> tuple[int, ...]:
    """Call until the latencies have settled, at most `limit` times; return the latencies in ns."""
    taken: tuple[int, ...] = ()
    while len(taken) < limit and not has_settled(taken):
        taken += timer.time_calls(len(taken), min(WINDOW, limit - len(taken))).calls_ns
    return taken


def process_run(warm_up_ns: tuple[int, ...], rounds: Sequence[TimedCalls]) -> ProcessRun:
    """Collect the raw values of one process from its warm-up and rounds."""
    on_device = tuple(calls.device_ns for calls in rounds if calls.device_ns)
    return ProcessRun(warm_up_ns, tuple(calls.calls_ns for calls in rounds), on_device)


def has_settled(calls_ns: Sequence[int]) -> bool:
    """Return whether the last windows of latencies have about the same median."""
    tail = calls_ns[-WINDOW * WINDOWS :]
    if len(tail) < WINDOW * WINDOWS:
        return False
    medians = [sorted(tail[i : i + WINDOW])[WINDOW // 2] for i in range(0, len(tail), WINDOW)]
    return max(medians) <= SETTLED * min(medians)


def time_calls(
    call: Callable[[int], object],
    *,
    first: int,
    count: int,
    clock: Callable[[], int] = time.perf_counter_ns,
    device_clock: DeviceClock | None = None,
) -> TimedCalls:
    """Time calls, with nothing but the call between two readings of the clock.

    Args:
        call: Function to time; takes the number of the call.
        first: Number of the first call.
        count: Number of calls.
        clock: Reads the time in ns.
        device_clock: The device's own clock, to time each call by as well.
    """
    taken, on_device = [], []
    for i in range(first, first + count):
        if device_clock is not None:
            device_clock.start()
        start = clock()
        result = call(i)
        taken.append(clock() - start)
        if device_clock is not None:
            on_device.append(device_clock.stop_ns())
        del result  # freed outside the timed part
    return TimedCalls(tuple(taken), tuple(on_device))


def check_counts(*, rounds: int, calls_per_round: int) -> None:
    """Raise InputError for invalid counts."""
    if rounds < 1 or calls_per_round < 1:
        raise InputError(f"expected at least 1 round and 1 call per round, found {rounds} and {calls_per_round}")


def _check_candidates(candidates: Sequence[LocalCandidate]) -> None:
    names = [c.description.name for c in candidates]
    if not names or len(set(names)) < len(names):
        raise InputError(f"expected candidates with different names, found {', '.join(names) or 'none'}")


def _check_inputs(candidate: LocalCandidate) -> None:
    name, size = candidate.description.name, candidate.description.batch
    if not candidate.inputs:
        raise InputError(f"expected real images to measure {name} with, found none")
    for i, batch in enumerate(candidate.inputs):
        if len(batch) != size:
            raise InputError(f"input {i} holds {counted(len(batch), 'image')}, {name} takes {size}")
    check_pictures(candidate.inputs)


def check_pictures(inputs: Sequence[Sequence[Image] | Image]) -> None:
    """Raise InputError if an image is empty or has a single value.

    Constant images are faster than real ones: no denormals, sparse activations, and no detections to sort.
    """
    for i, batch in enumerate(inputs):
        if any(image.size == 0 or image.min() == image.max() for image in batch):
            raise InputError(f"input {i} holds an image of a single value; measure with real pictures")
