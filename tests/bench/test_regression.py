from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mien.bench.environment import Environment
from mien.bench.measure import Description, Measurement
from mien.bench.regression import Rule, compare_reports, parse_rule
from mien.bench.report import BenchReport, Row
from mien.runtime.errors import InputError
from mien.runtime.runner import Precision

MACHINE = Environment(
    python="3.11.0",
    os="Linux",
    machine="x86_64",
    cpu="EPYC",
    logical_cores=2,
    memory_gib=8.0,
    packages={},
    governor=None,
    clock_mhz=None,
    load_average=None,
    utc="2026-01-01T00:00:00+00:00",
)


def report(seed: int, *, slower: float = 1.0, threads: int = 1, inputs: str = "a", rounds: int = 20) -> BenchReport:
    """A run of rounds of 10 calls of about 2 ms: rounds differ by 3 %, calls by 5 %, with a tail."""
    rng = np.random.default_rng(seed)
    drift = 1 + 0.03 * rng.standard_normal((rounds, 1))
    calls = 2e6 * slower * drift * (1 + 0.05 * rng.gamma(2.0, 1.0, (rounds, 10)))
    about = Description(
        name="landmarks/cpu/fp32/1",
        model="landmarks",
        precision=Precision.FP32,
        provider="cpu",
        batch=1,
        threads=threads,
        inputs_digest=inputs,
    )
    latencies = tuple(tuple(int(v) for v in one_round) for one_round in calls)
    return BenchReport(MACHINE, (Row(Measurement(about, (2_000_000,), latencies)),))


@pytest.mark.parametrize(("metric", "rounds"), [("p50", 20), ("mean", 20), ("p95", 80)])  # a tail needs more calls
def test_ten_percent_are_detected_and_no_change_is_not(metric: str, rounds: int) -> None:
    rule = parse_rule(f"{metric}>+5%")

    def breaks(seed: int, slower: float) -> bool:
        old, new = report(seed, rounds=rounds), report(100 + seed, slower=slower, rounds=rounds)
        return compare_reports(old, new, [metric])[0].breaks(rule)

    assert sum(breaks(seed, 1.1) for seed in range(20)) >= 19
    assert sum(breaks(seed, 1.0) for seed in range(20)) <= 1


def test_a_change_by_hand() -> None:
    (change,) = compare_reports(report(0), report(0, slower=1.5), ["p50"])
    assert change.value == pytest.approx(1.5, abs=1e-3) and change.low <= change.value <= change.high
    assert str(change).startswith("+50.0% (")
    assert change.breaks(Rule("p50", 49)) and not change.breaks(Rule("p50", 51)) and not change.breaks(Rule("p99", 5))


def test_different_things_are_not_compared_unless_told_to() -> None:
    other = report(1)
    for new, reason in [
        (replace(other, environment=replace(MACHINE, cpu="Xeon")), "cpu was EPYC, is Xeon"),
        (report(1, threads=2), r"had 1 thread\(s\), has 2"),
        (report(1, inputs="b"), "had other inputs"),
    ]:
        with pytest.raises(InputError, match=reason):
            compare_reports(report(0), new, ["p50"])
        assert compare_reports(report(0), new, ["p50"], anyway=True)
    renamed = replace(other.rows[0].measurement.description, name="detector")
    nothing = BenchReport(MACHINE, (Row(replace(other.rows[0].measurement, description=renamed)),))
    with pytest.raises(InputError, match="no candidate in common"):
        compare_reports(report(0), nothing, ["p50"])


@pytest.mark.parametrize("text", ["p95", "p95<5%", "speed>5%", "p95>5", ""])
def test_rules_that_cannot_be_read_are_told(text: str) -> None:
    with pytest.raises(InputError, match="wanted a rule such as"):
        parse_rule(text)


def test_rules_are_read() -> None:
    assert parse_rule("p95>+5%") == Rule("p95", 5) == parse_rule(" p95 > 5.0 % ")
    assert str(Rule("p50", 2.5)) == "p50>+2.5%"
