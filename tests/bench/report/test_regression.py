from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mien.bench.accuracy.accuracy import Accuracy, Metric, mean_accuracy
from mien.bench.parity.parity import ParityGate, Unit, parity_of
from mien.bench.report.build_report import build_report
from mien.bench.report.regression import Rule, compare_reports, missing_results, parse_rule
from mien.bench.report.report import BenchReport, CandidateMetadata, FailedCandidate, Row, RunConditions
from mien.bench.timing.environment import Environment
from mien.bench.timing.measurement import Description, Measurement, ProcessRun
from mien.bench.worker.process import FailureKind
from mien.runtime.errors import InputError
from mien.runtime.models.spec import Precision

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
    return BenchReport(MACHINE, (Row(Measurement(about, (ProcessRun((2_000_000,), latencies),))),))


@pytest.mark.parametrize(("metric", "rounds"), [("p50", 20), ("mean", 20), ("p95", 80)])  # a tail needs more calls
def test_ten_percent_are_detected_and_no_change_is_not(metric: str, rounds: int) -> None:
    rule = parse_rule(f"{metric}>+5%")

    def breaks(seed: int, slower: float) -> bool:
        old, new = report(seed, rounds=rounds), report(100 + seed, slower=slower, rounds=rounds)
        return compare_reports(old, new, [metric])[0].breaks(rule)

    assert sum(breaks(seed, 1.1) for seed in range(20)) >= 19
    assert sum(breaks(seed, 1.0) for seed in range(20)) <= 1


@pytest.mark.parametrize("between", [0.02, 0.04])
def test_what_differs_from_launch_to_launch_is_no_change(between: float) -> None:
    """Each of five processes is slower or faster as a whole; ten percent are seen where that is not more than noise."""
    rule = parse_rule("p50>+5%")

    def launched(seed: int, slower: float = 1.0) -> BenchReport:
        ways = np.exp(np.random.default_rng(seed).normal(0, between, 5))
        parts = [report(7 * seed + i, slower=slower * way, rounds=4).rows[0] for i, way in enumerate(ways)]
        processes = tuple(part.measurement.processes[0] for part in parts)
        return BenchReport(
            MACHINE, (replace(parts[0], measurement=replace(parts[0].measurement, processes=processes)),)
        )

    def breaks(seed: int, slower: float) -> bool:
        old, new = launched(seed), launched(1000 + seed, slower)
        return compare_reports(old, new, ["p50"])[0].breaks(rule)

    assert sum(breaks(seed, 1.0) for seed in range(20)) <= 1
    if between < 0.03:
        assert sum(breaks(seed, 1.1) for seed in range(20)) >= 19


def test_few_rounds_are_not_compared() -> None:
    with pytest.raises(InputError, match=r"has 4 rounds, but a comparison needs 5"):
        compare_reports(report(0, rounds=4), report(1), ["p50"])


def test_a_change_by_hand() -> None:
    (change,) = compare_reports(report(0), report(0, slower=1.5), ["p50"])
    assert change.value == pytest.approx(1.5, abs=1e-3) and change.low <= change.value <= change.high
    assert str(change).startswith("+50.0% (")
    assert change.breaks(Rule("p50", 49)) and not change.breaks(Rule("p50", 51)) and not change.breaks(Rule("p99", 5))


def test_different_things_are_not_compared_unless_told_to() -> None:
    other = report(1)
    for new, reason in [
        (replace(other, environment=replace(MACHINE, cpu="Xeon")), "cpu was EPYC, now is Xeon"),
        (report(1, threads=2), r"had 1 thread, now has 2"),
        (report(1, inputs="b"), "had different inputs"),
    ]:
        with pytest.raises(InputError, match=reason):
            compare_reports(report(0), new, ["p50"])
        assert compare_reports(report(0), new, ["p50"], allow_mismatch=True)
    kept, plain = (RunConditions(rounds=20, calls_per_round=10, allocator=a) for a in ("kept", "plain"))
    with pytest.raises(InputError, match="the memory allocator was kept, now is plain"):
        compare_reports(replace(report(0), conditions=kept), replace(other, conditions=plain), ["p50"])
    renamed = replace(other.rows[0].measurement.description, name="detector")
    nothing = BenchReport(MACHINE, (Row(replace(other.rows[0].measurement, description=renamed)),))
    with pytest.raises(InputError, match="no candidate in common"):
        compare_reports(report(0), nothing, ["p50"])


@pytest.mark.parametrize("text", ["p95", "p95=5%", "speed>5%", "p95>5", "p95>-5%", ""])
def test_rules_that_cannot_be_read_are_told(text: str) -> None:
    with pytest.raises(InputError, match="expected a rule such as"):
        parse_rule(text)


def test_rules_are_read() -> None:
    assert parse_rule("p95>+5%") == Rule("p95", 5) == parse_rule(" p95 > 5.0 % ")
    assert str(Rule("p50", 2.5)) == "p50>+2.5%"
    assert parse_rule("ap50<-1%") == parse_rule("ap50 < 1 %") == Rule("ap50", 1) and str(Rule("ap50", 1)) == "ap50<-1%"
    for text in ("p95<-5%", "ap50>+1%", "ratio>+5%"):
        with pytest.raises(InputError, match="would fail on an improvement"):
            parse_rule(text)


def with_accuracy(whole: BenchReport, accuracy: Accuracy | None) -> BenchReport:
    return replace(whole, rows=tuple(replace(row, accuracy=accuracy) for row in whole.rows))


def nme(seed: int, *, worse: float = 1.0, digest: str = "d") -> Accuracy:
    """Errors of 400 faces, the same faces for every seed; each model of the same quality errs a little differently."""
    faces = 3 + np.random.default_rng(0).gamma(2.0, 0.5, 400)
    noise = np.random.default_rng(seed).normal(0, 0.05, 400)
    return mean_accuracy(worse * faces + noise, Metric.NME, data_digest=digest)


def test_a_loss_of_accuracy_is_detected_and_none_is_not() -> None:
    rule = parse_rule("nme>+1%")

    def breaks(seed: int, worse: float) -> bool:
        old, new = with_accuracy(report(0), nme(seed)), with_accuracy(report(0), nme(100 + seed, worse=worse))
        return compare_reports(old, new, ["nme"])[0].breaks(rule)

    assert sum(breaks(seed, 1.02) for seed in range(20)) >= 19
    assert sum(breaks(seed, 1.0) for seed in range(20)) <= 1


def test_less_of_what_should_be_high_is_worse() -> None:
    hits = np.repeat([0.0, 100.0], [20, 380])
    fewer = np.repeat([0.0, 100.0], [60, 340])
    a, b = (mean_accuracy(values, Metric.ACCURACY, data_digest="d") for values in (hits, fewer))
    old, new = with_accuracy(report(0), a), with_accuracy(report(0), b)
    (change,) = compare_reports(old, new, ["accuracy"])
    assert (change.old, change.new) == (95.0, 85.0) and change.breaks(Rule("accuracy", 5))
    (back,) = compare_reports(new, old, ["accuracy"])
    assert not back.breaks(Rule("accuracy", 5))


def test_accuracy_is_only_compared_where_both_have_it_of_the_same_data() -> None:
    old = with_accuracy(report(0), nme(0))
    with pytest.raises(InputError, match="no candidate has nme in both reports; measure both with --data"):
        compare_reports(old, report(0), ["nme"])
    with pytest.raises(InputError, match="no candidate has ap50"):
        compare_reports(old, old, ["ap50"])
    other = with_accuracy(report(0), nme(0, digest="e"))
    with pytest.raises(InputError, match="evaluated on different data"):
        compare_reports(old, other, ["nme"])
    assert compare_reports(old, other, ["nme"], allow_mismatch=True)


def against_eager(seed: int, *, machine: float = 1.0, slower: float = 1.0) -> BenchReport:
    """A candidate and its baseline; a slow machine slows both, a regression only the candidate."""
    candidate = report(seed, slower=machine * slower).rows[0].measurement
    baseline = report(1000 + seed, slower=4 * machine).rows[0].measurement
    baseline = replace(baseline, description=replace(candidate.description, name="eager", provider="eager-cpu"))
    same = ParityGate((parity_of(np.array([0.01]), unit=Unit.PX, tolerance=0.25),))
    return build_report(
        [Row(baseline), Row(candidate, parity=same)], MACHINE, baseline_of={"landmarks/cpu/fp32/1": "eager"}
    )


def test_the_ratio_tells_a_slower_model_from_a_slower_machine() -> None:
    rule = parse_rule("ratio<-5%")

    def breaks(seed: int, **changes: float) -> bool:
        return compare_reports(against_eager(seed), against_eager(100 + seed, **changes), ["ratio"])[0].breaks(rule)

    assert sum(breaks(seed, slower=1.15) for seed in range(20)) >= 19
    assert sum(breaks(seed, machine=1.3) for seed in range(20)) <= 1
    with pytest.raises(InputError, match="measure both with --baseline eager"):
        compare_reports(report(0), report(1), ["ratio"])


def test_a_candidate_that_is_lost_now_is_told() -> None:
    old = report(0)
    failed = FailedCandidate(old.rows[0].measurement.description, FailureKind.CRASHED, "ended by SIGSEGV")
    assert missing_results(old, BenchReport(MACHINE, (), failed=(failed,))) == [
        "landmarks/cpu/fp32/1: crashed (ended by SIGSEGV)"
    ]
    assert missing_results(BenchReport(MACHINE, ()), BenchReport(MACHINE, (), failed=(failed,))) == []


def test_one_that_cannot_be_opened_any_more_is_told_under_the_name_it_was_asked_for() -> None:
    """It has no precision then, and perhaps no provider."""
    old = report(0)
    about = old.rows[0].measurement.description
    for provider, known in (("cpu", True), ("auto", True), ("cuda", False)):
        failed = FailedCandidate(
            replace(about, name="x", precision=None, provider=provider), FailureKind.REFUSED, "no model"
        )
        (line,) = missing_results(old, BenchReport(MACHINE, (), failed=(failed,)))
        assert line.endswith("refused (no model)" if known else "missing from the new report")


def test_what_is_not_known_any_more_is_told() -> None:
    good, bad = (ParityGate((parity_of(np.array([v]), unit=Unit.PX, tolerance=0.25),)) for v in (0.1, 3.0))
    row = report(0).rows[0]

    def told(before: Row, after: Row, *metrics: str) -> list[str]:
        return missing_results(BenchReport(MACHINE, (before,)), BenchReport(MACHINE, (after,)), metrics)

    held = replace(row, parity=good)
    assert "its parity check passed before, and now fails" in told(held, replace(row, parity=bad))[0]
    assert "its parity check passed before, and now was not made" in told(held, row)[0]
    assert "its process failed (SIGSEGV)" in told(row, replace(row, metadata=CandidateMetadata(failure="SIGSEGV")))[0]
    measured = replace(row, accuracy=nme(0))
    assert told(measured, row, "nme") == ["landmarks/cpu/fp32/1: nme is missing now"]
    assert told(measured, row) == told(held, held) == told(measured, measured, "nme", "p50") == []
    old = against_eager(0)
    new = replace(old, rows=tuple(replace(r, ratio=None, withheld=r.baseline and "noise") for r in old.rows))
    assert [line for line in missing_results(old, new, ["ratio"]) if "ratio is missing now (noise)" in line]


def test_ratios_to_different_baselines_are_not_compared() -> None:
    old = against_eager(0)
    compiled = [
        replace(r, measurement=replace(r.measurement, description=replace(r.measurement.description, name="compile")))
        if r.baseline is None
        else replace(r, baseline="compile")
        for r in old.rows
    ]
    with pytest.raises(InputError, match="was compared with eager, now with compile"):
        compare_reports(old, replace(old, rows=tuple(compiled)), ["ratio"])


def test_another_gpu_is_other_hardware() -> None:
    new = replace(report(1), environment=replace(MACHINE, gpu="H100"))
    with pytest.raises(InputError, match="gpu was None, now is H100"):
        compare_reports(report(0), new, ["p50"])
