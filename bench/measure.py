"""Latency of several candidates, measured in turns on the same real images; every raw value is kept."""

from __future__ import annotations

import gc
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain

from ..runtime.errors import InputError
from ..runtime.runner import Precision
from ..runtime.values import Image

log = logging.getLogger("mien")

WINDOW = 5
WINDOWS = 3
SETTLED = 1.05
"""A warm-up is over when the medians of its last `WINDOWS` windows of `WINDOW` calls lie within this factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What was measured. `name` is unique within a report."""

    name: str
    model: str
    precision: Precision
    provider: str
    """What really runs it: ``cpu``, ``cuda``, ``eager-cpu``, …"""
    batch: int
    """Images in a call."""
    threads: int
    """Threads of one operator, 0 for all cores."""
    inputs_digest: str = ""
    """Of the input images: what was measured on other images is not comparable."""

    def __str__(self) -> str:
        return f"{self.model} {self.precision.value} on {self.provider}, batch {self.batch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(Description):
    """Something to measure.

    inputs: real batches (b, h, w, 3) uint8 BGR, taken in turns; candidates that are compared share them.
    call: takes one of them and returns when the result is there, not merely queued.
    """

    inputs: Sequence[Image]
    call: Callable[[Image], object]

    @property
    def description(self) -> Description:
        """The candidate without what it calls."""
        about = Description(**{f.name: getattr(self, f.name) for f in fields(Description)})
        return replace(about, inputs_digest=digest_of(self.inputs))


@dataclass(frozen=True, slots=True)
class Measurement:
    """All latencies of one candidate.

    latencies_ns: one tuple a round; round k of every candidate of one run was taken at about the same time.
    Percentiles are nearest-rank over all calls: each is a latency that really occurred.
    """

    description: Description
    warm_up_ns: tuple[int, ...]
    latencies_ns: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.latencies_ns or not all(self.latencies_ns):
            raise ValueError("a measurement needs at least one round, and each round a call")
        if min(chain(self.warm_up_ns, *self.latencies_ns)) <= 0:
            raise ValueError("a latency must be above 0 ns")

    @property
    def calls_ns(self) -> tuple[int, ...]:
        """The latencies of all rounds, in the order in which they were taken."""
        return tuple(chain.from_iterable(self.latencies_ns))

    def percentile_ms(self, percent: int) -> float:
        """Smallest latency that at least `percent` of the calls did not exceed, in ms."""
        calls = sorted(self.calls_ns)
        rank = -(-percent * len(calls) // 100)  # in whole numbers: 0.99 · 100 is not always 99
        return calls[max(rank, 1) - 1] / 1e6

    @property
    def p50_ms(self) -> float:
        """Median latency of a call in ms."""
        return self.percentile_ms(50)

    @property
    def p90_ms(self) -> float:
        """90th percentile in ms."""
        return self.percentile_ms(90)

    @property
    def p99_ms(self) -> float:
        """99th percentile in ms."""
        return self.percentile_ms(99)

    @property
    def max_ms(self) -> float:
        """The slowest call in ms."""
        return self.percentile_ms(100)

    @property
    def images_per_second(self) -> float:
        """Throughput: images over the sum of all latencies."""
        calls = self.calls_ns
        return self.description.batch * len(calls) / (sum(calls) / 1e9)

    @property
    def spread(self) -> float:
        """p90 over p50: 1 for a clock-work, more on a disturbed machine."""
        return self.p90_ms / self.p50_ms


def digest_of(inputs: Sequence[Image]) -> str:
    """Digest of batches of images, their order included."""
    digest = hashlib.sha256()
    for batch in inputs:
        digest.update(repr(batch.shape).encode())
        digest.update(batch.tobytes())
    return digest.hexdigest()[:16]


def measure_interleaved(
    candidates: Sequence[Candidate],
    *,
    rounds: int,
    calls_per_round: int,
    warm_up_calls: int = 200,
    clock: Callable[[], int] = time.perf_counter_ns,
    progress: Callable[[int, int], None] | None = None,
) -> list[Measurement]:
    """Measure candidates in turns, A B C A B C …, so that a drift of the machine meets all of them alike.

    warm_up_calls: at most so many calls before the rounds; it ends earlier once the latencies have settled.
    progress: called between rounds with (rounds done, rounds).
    Ctrl-C during the rounds ends the run; the complete rounds are returned if there is one.

    Raises:
        InputError: no candidate or input, a constant image, a batch of another size, a count that makes no sense.
    """
    _check_counts(rounds=rounds, calls_per_round=calls_per_round, warm_up_calls=warm_up_calls)
    _check_candidates(candidates)
    for candidate in candidates:
        _check_inputs(candidate)
    collecting = gc.isenabled()
    gc.disable()  # a collection would be charged to whichever candidate it happens to meet
    try:
        warm_ups = [_warm_up(c, limit=warm_up_calls, clock=clock) for c in candidates]
        done = _measure_rounds(
            candidates,
            rounds=rounds,
            calls=calls_per_round,
            clock=clock,
            progress=progress,
        )
    finally:
        if collecting:
            gc.enable()
    return [
        Measurement(c.description, warm_up, tuple(one_round[i] for one_round in done))
        for i, (c, warm_up) in enumerate(zip(candidates, warm_ups, strict=True))
    ]


def has_settled(calls_ns: Sequence[int]) -> bool:
    """Whether the last windows of these latencies have about the same median."""
    tail = calls_ns[-WINDOW * WINDOWS :]
    if len(tail) < WINDOW * WINDOWS:
        return False
    medians = [sorted(tail[i : i + WINDOW])[WINDOW // 2] for i in range(0, len(tail), WINDOW)]
    return max(medians) <= SETTLED * min(medians)


def _warm_up(
    candidate: Candidate,
    *,
    limit: int,
    clock: Callable[[], int],
) -> tuple[int, ...]:
    taken: tuple[int, ...] = ()
    while len(taken) < limit and not has_settled(taken):
        count = min(WINDOW, limit - len(taken))
        taken += _time_calls(candidate, first=len(taken), count=count, clock=clock)
    return taken


def _measure_rounds(
    candidates: Sequence[Candidate],
    *,
    rounds: int,
    calls: int,
    clock: Callable[[], int],
    progress: Callable[[int, int], None] | None,
) -> list[tuple[tuple[int, ...], ...]]:
    done: list[tuple[tuple[int, ...], ...]] = []
    try:
        for i in range(rounds):
            # A round is added whole, or an interrupt would leave candidates with unequal numbers of rounds.
            start = i * calls
            taken = [_time_calls(c, first=start, count=calls, clock=clock) for c in candidates]
            done.append(tuple(taken))
            if progress is not None:
                progress(len(done), rounds)
    except KeyboardInterrupt:
        if not done:
            raise
        log.warning("interrupted: %d of %d rounds are complete and kept", len(done), rounds)
    return done


def _time_calls(candidate: Candidate, *, first: int, count: int, clock: Callable[[], int]) -> tuple[int, ...]:
    taken = []
    call, inputs = candidate.call, candidate.inputs
    for i in range(first, first + count):
        batch = inputs[i % len(inputs)]
        start = clock()
        result = call(batch)
        taken.append(clock() - start)
        del result  # freed outside the timed part
    return tuple(taken)


def _check_counts(*, rounds: int, calls_per_round: int, warm_up_calls: int) -> None:
    if rounds < 1 or calls_per_round < 1 or warm_up_calls < 0:
        raise InputError(
            "wanted at least 1 round, 1 call a round and 0 warm-up calls, "
            f"found {rounds}, {calls_per_round} and {warm_up_calls}"
        )


def _check_candidates(candidates: Sequence[Candidate]) -> None:
    names = [c.name for c in candidates]
    if not names or len(set(names)) < len(names):
        raise InputError(f"wanted candidates with names of their own, found {', '.join(names) or 'none'}")


def _check_inputs(candidate: Candidate) -> None:
    if not candidate.inputs:
        raise InputError(f"wanted real images to measure {candidate.name} with, found none")
    for i, batch in enumerate(candidate.inputs):
        if candidate.batch != len(batch):
            raise InputError(f"input {i} holds {len(batch)} images, {candidate.name} takes {candidate.batch}")
        # Zeros are quicker than pictures: denormals, sparsity and a detector with nothing to sort.
        if any(image.size == 0 or image.min() == image.max() for image in batch):
            raise InputError(f"input {i} holds an image of one single value; measure with real pictures")
