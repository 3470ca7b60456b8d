from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from mien.bench.timing import interleave
from mien.bench.timing.interleave import (
    SETTLED,
    WINDOW,
    WINDOWS,
    LocalCandidate,
    digest_of,
    has_settled,
    measure_interleaved,
)
from mien.bench.timing.measurement import Description, Measurement, ProcessRun
from mien.runtime.errors import InputError
from mien.runtime.models.spec import Precision
from mien.runtime.values import Image

MS = 1_000_000


@pytest.fixture(autouse=True)
def real_warm_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleave, "SETTLED", SETTLED)


class FakeClock:
    """Time passes only in calls, by known delays."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.called: list[tuple[str, int]] = []

    def __call__(self) -> int:
        return self.now_ns

    def candidate(self, name: str, delays_ms: Iterator[float], *, batch: int = 1) -> LocalCandidate:
        def call(images: Image) -> None:
            self.called.append((name, int(images[0, 0, 0, 0])))
            self.now_ns += round(next(delays_ms) * MS)

        return make(name, call, batch=batch)


def make(name: str, call: Callable[[Image], object], *, batch: int = 1) -> LocalCandidate:
    about = Description(name=name, model="m", precision=Precision.FP32, provider="cpu", batch=batch, threads=1)
    return LocalCandidate(about, inputs=(), call=call)


def batches(n: int, *, batch: int = 1) -> list[Image]:
    """Different pictures; the first value of each is its index."""
    images = np.random.default_rng(0).integers(100, 200, (n, batch, 4, 4, 3), dtype=np.uint8)
    images[:, 0, 0, 0, 0] = np.arange(n)
    return list(images)


def measured(latencies_ms: list[list[float]], *, batch: int = 1) -> Measurement:
    rounds = tuple(tuple(round(v * MS) for v in one_round) for one_round in latencies_ms)
    return Measurement(make("a", lambda _: None, batch=batch).description, (ProcessRun((MS,), rounds),))


def measure(candidates: Sequence[LocalCandidate], inputs: Sequence[Image], **options: Any) -> list[Measurement]:
    """Measure candidates that all take the same inputs."""
    return measure_interleaved([replace(c, inputs=inputs) for c in candidates], **options)


def test_known_delays_are_measured_exactly_and_the_warm_up_is_kept_apart() -> None:
    clock = FakeClock()
    warm_up = [50.0] * 5 + [10.0] * 15
    delays = [float(v) for v in range(1, 101)]
    candidate = clock.candidate("a", iter(warm_up + delays), batch=2)
    (found,) = measure([candidate], batches(3, batch=2), rounds=10, calls_per_round=10, warm_up_calls=200, clock=clock)
    assert found.processes[0].warm_up_ns == tuple(round(v * MS) for v in warm_up)
    assert found.calls_ns == tuple(round(v * MS) for v in delays)
    assert [len(one_round) for one_round in found.rounds_ns] == [10] * 10
    assert (found.p50_ms, found.p90_ms, found.p99_ms, found.max_ms) == (50, 90, 99, 100)
    assert found.spread == 90 / 50
    assert found.images_per_second == pytest.approx(2 * 100 / (sum(delays) / 1e3))
    assert found.description == replace(candidate.description, inputs_digest=digest_of(batches(3, batch=2)))


def test_percentiles_are_latencies_that_occurred_and_tails_are_not_trimmed() -> None:
    found = measured([[3.0, 1.0, 1000.0]])
    assert (found.p50_ms, found.p90_ms, found.p99_ms, found.max_ms) == (3, 1000, 1000, 1000)
    assert measured([[7.0]]).p50_ms == measured([[7.0]]).p99_ms == 7
    oracle = np.random.default_rng(1).permutation(np.arange(1.0, 138.0))
    for percent in (1, 25, 50, 90, 99, 100):
        wanted = next(v for v in sorted(oracle) if (oracle <= v).sum() * 100 >= percent * len(oracle))
        assert measured([list(oracle)]).percentile_ms(percent) == wanted


def test_candidates_take_turns_on_the_same_rotated_inputs() -> None:
    clock = FakeClock()
    candidates = [clock.candidate(name, cycle([1.0])) for name in "abc"]
    measure(candidates, batches(3), rounds=2, calls_per_round=2, warm_up_calls=0, clock=clock)
    inputs = {0: [0, 1], 1: [2, 0]}
    assert clock.called == [(name, i) for turn in (0, 1) for name in "abc" for i in inputs[turn]]


def test_a_warm_up_that_never_settles_is_capped() -> None:
    clock = FakeClock()
    falling = (1000.0 * 0.98**i for i in range(1000))
    (found,) = measure(
        [clock.candidate("a", falling)],
        batches(1),
        rounds=1,
        calls_per_round=1,
        warm_up_calls=33,
        clock=clock,
    )
    assert len(found.processes[0].warm_up_ns) == 33
    assert not has_settled(found.processes[0].warm_up_ns)


def test_settled_means_equal_medians_of_whole_windows() -> None:
    whole = WINDOW * WINDOWS
    assert has_settled([100] * whole)
    assert not has_settled([100] * (whole - 1))
    assert has_settled([900] * 50 + [100] * (whole - WINDOW) + [105] * WINDOW)
    assert not has_settled([100] * (whole - WINDOW) + [106] * WINDOW)
    assert has_settled(([100] * (WINDOW - 1) + [900]) * WINDOWS), "single outliers do not unsettle a median"


@pytest.mark.parametrize("value", [0, 114])
def test_constant_images_are_refused(value: int) -> None:
    for batch in (1, 2):
        inputs = batches(2, batch=batch)
        inputs[1][-1] = value
        with pytest.raises(InputError, match=r"input 1 .* real pictures"):
            measure([make("a", lambda _: None, batch=batch)], inputs, rounds=1, calls_per_round=1, warm_up_calls=0)


def test_misuse_is_refused() -> None:
    a, other = make("a", lambda _: None), make("b", lambda _: None, batch=8)
    with pytest.raises(InputError, match="found a, a"):
        measure([a, a], batches(1), rounds=1, calls_per_round=1)
    with pytest.raises(InputError, match="found none"):
        measure([], batches(1), rounds=1, calls_per_round=1)
    with pytest.raises(InputError, match="real images"):
        measure([a], [], rounds=1, calls_per_round=1)
    with pytest.raises(InputError, match="holds 1 image, b takes 8"):
        measure([a, other], batches(1), rounds=1, calls_per_round=1)
    for rounds, calls in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match="at least 1 round"):
            measure([a], batches(1), rounds=rounds, calls_per_round=calls)
    with pytest.raises(ValueError, match="at least one round"):
        measured([])
    with pytest.raises(ValueError, match="at least one round"):
        measured([[1.0], []])
    with pytest.raises(ValueError, match="above 0"):
        measured([[0.0]])


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_rests_while_timing_and_is_restored(enabled: bool) -> None:
    seen: list[bool] = []
    clock = FakeClock()

    def call(_: Image) -> None:
        seen.append(gc.isenabled())
        clock.now_ns += 1
        if len(seen) == 3:
            raise RuntimeError("broken runner")

    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(RuntimeError, match="broken runner"):
            measure([make("a", call)], batches(1), rounds=9, calls_per_round=1, warm_up_calls=0, clock=clock)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert seen == [False] * 3


def test_ctrl_c_keeps_the_complete_rounds_of_all_candidates() -> None:
    clock = FakeClock()

    def interrupted() -> Iterator[float]:
        yield from [2.0] * 5
        raise KeyboardInterrupt

    candidates = [clock.candidate("a", cycle([1.0])), clock.candidate("b", interrupted())]
    inputs = batches(1)
    a, b = measure(candidates, inputs, rounds=9, calls_per_round=2, warm_up_calls=0, clock=clock)
    assert a.rounds_ns == ((MS, MS),) * 2
    assert b.rounds_ns == ((2 * MS, 2 * MS),) * 2


def test_ctrl_c_before_the_first_complete_round_goes_through() -> None:
    clock = FakeClock()

    def interrupted() -> Iterator[float]:
        yield 1.0
        raise KeyboardInterrupt

    for warm_up in (0, 5):
        with pytest.raises(KeyboardInterrupt):
            measure(
                [clock.candidate("a", interrupted())],
                batches(1),
                rounds=9,
                calls_per_round=2,
                warm_up_calls=warm_up,
                clock=clock,
            )


def test_progress_is_told_between_rounds_and_costs_no_measured_time() -> None:
    clock = FakeClock()
    told: list[tuple[int, int]] = []

    def progress(done: int, rounds: int) -> None:
        told.append((done, rounds))
        clock.now_ns += 777 * MS

    (found,) = measure(
        [clock.candidate("a", cycle([1.0]))],
        batches(1),
        rounds=3,
        calls_per_round=1,
        warm_up_calls=0,
        clock=clock,
        progress=progress,
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert found.calls_ns == (MS,) * 3


def test_a_result_is_freed_outside_the_timed_part() -> None:
    clock = FakeClock()

    class Slow:
        def __del__(self) -> None:
            clock.now_ns += 1000

    def call(_: Image) -> Slow:
        clock.now_ns += 1
        return Slow()

    (found,) = measure([make("a", call)], batches(1), rounds=1, calls_per_round=3, warm_up_calls=0, clock=clock)
    assert found.calls_ns == (1, 1, 1)
