from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mien.bench.accuracy.accuracy import Accuracy, Metric, mean_accuracy
from mien.bench.parity.parity import ParityGate, Unit, parity_of
from mien.bench.report.recommend import REFERENCE_FILE, Recommendation, command_of, parse_budget, recommend
from mien.bench.report.report import BenchReport, CandidateMetadata, Row
from mien.bench.timing.environment import describe_environment
from mien.bench.timing.measurement import Description, Level, Measurement, ProcessRun
from mien.runtime.errors import InputError
from mien.runtime.models.spec import Precision


def nme(level: float) -> Accuracy:
    """400 faces; the same ones for every level, some hard."""
    faces = np.random.default_rng(0).gamma(4.0, 0.25, 400)
    return mean_accuracy(level * faces / faces.mean(), Metric.NME, data_digest="d")


def row(
    name: str,
    p50_ms: float,
    *,
    accuracy: Accuracy | None = None,
    p90_ms: float | None = None,
    task: str = "landmarks",
    provider: str = "cpu",
    level: Level = Level.MODEL,
    batch: int = 1,
    parity: float | None = None,
    file: str = "",
) -> Row:
    description = Description(
        name=f"{name}/{provider}/{level.value}/{batch}",
        model=name,
        precision=Precision.FP32,
        provider=provider,
        batch=batch,
        threads=2,
        task=task,
        level=level,
    )
    slow = p50_ms if p90_ms is None else p90_ms
    one_round = tuple(int(ms * 1e6) for ms in [p50_ms] * 8 + [slow] * 2)
    gate = None if parity is None else ParityGate((parity_of(np.array([parity]), unit=Unit.PX, tolerance=0.25),))
    return Row(
        Measurement(description, (ProcessRun((1,), (one_round,) * 20),)),
        parity=gate,
        accuracy=accuracy,
        metadata=CandidateMetadata(file=file or f"{name}.onnx"),
    )


def chosen(*rows: Row, budget_ms: float = 8.0, max_nme_loss: float | None = None) -> Recommendation:
    (choice,) = recommend(BenchReport(describe_environment(), rows), budget_ms, max_nme_loss=max_nme_loss)
    return choice


def name_of(choice: Recommendation) -> str | None:
    return None if choice.row is None else choice.row.measurement.description.model


def test_the_most_accurate_within_the_budget_is_taken() -> None:
    fast, good, slow = (
        row("fast", 1, accuracy=nme(4.4)),
        row("good", 5, accuracy=nme(4.0)),
        row("slow", 9, accuracy=nme(3.0)),
    )
    assert name_of(chosen(fast, good, slow)) == "good"
    assert name_of(chosen(fast, good, slow, budget_ms=10)) == "slow"
    assert name_of(chosen(fast, good, slow, budget_ms=2)) == "fast"
    nothing = chosen(fast, good, slow, budget_ms=0.5)
    assert nothing.row is None and nothing.reason == "nothing within 0.5 ms: the fastest has a p90 of 1.00 ms"


def test_the_budget_holds_for_nine_of_ten_calls() -> None:
    assert name_of(chosen(row("a", 5, p90_ms=9, accuracy=nme(3)), row("b", 7, accuracy=nme(4)))) == "b"


def test_of_equals_the_faster_is_taken() -> None:
    rng = np.random.default_rng(1)
    faces = np.random.default_rng(0).gamma(4.0, 1.0, 400)
    a, b = (mean_accuracy(faces + rng.normal(0, 0.1, 400), Metric.NME, data_digest="d") for _ in range(2))
    best, other = (a, b) if a.value < b.value else (b, a)
    choice = chosen(row("slower", 6, accuracy=best), row("faster", 2, accuracy=other))
    assert name_of(choice) == "faster" and "not significantly less accurate" in choice.reason


def test_a_loss_that_is_allowed_buys_time() -> None:
    rows = [row("best", 7, accuracy=nme(3.0)), row("less", 3, accuracy=nme(3.15)), row("least", 1, accuracy=nme(3.5))]
    assert name_of(chosen(*rows)) == "best"
    assert name_of(chosen(*rows, max_nme_loss=0.2)) == "less"
    assert name_of(chosen(*rows, max_nme_loss=1.0)) == "least"
    none = chosen(*rows[1:], row("too slow", 20, accuracy=nme(3.0)), max_nme_loss=0.1)
    assert none.row is None and "NME of 3.10 % or less" in none.reason
    with pytest.raises(InputError, match="needs the NME"):
        chosen(row("a", 1), max_nme_loss=0.2)


def test_a_higher_ap_is_better() -> None:
    hits = np.repeat([0.0, 100.0], [40, 360])
    fewer = np.repeat([0.0, 100.0], [90, 310])
    a, b = (mean_accuracy(v, Metric.ACCURACY, data_digest="d") for v in (hits, fewer))
    assert name_of(chosen(row("b", 1, accuracy=b), row("a", 5, accuracy=a))) == "a"


def test_what_cannot_be_shipped_is_not_chosen() -> None:
    wrong = row("wrong", 1, parity=3.0)
    eager = row("eager", 1, provider="eager-cpu")
    clip = row("pipeline", 1, level=Level.PIPELINE, task="pipeline")
    batched = row("good", 1, batch=8, parity=0.1)
    assert name_of(chosen(wrong, eager, clip, batched, row("good", 5, parity=0.1))) == "good"
    assert chosen(wrong).reason == "nothing within 8 ms: none passed its parity check"


def test_the_yardstick_and_what_was_not_proven_are_not_chosen() -> None:
    unproven = replace(row("unproven", 1), baseline="eager", withheld="its parity was not checked")
    eager = row("eager", 3, provider="eager-cpu")
    unproven = replace(unproven, baseline=eager.name)
    died = replace(row("died", 1), metadata=CandidateMetadata(file="died.onnx", failure="ended by SIGSEGV"))
    yardstick = row("mobilenet", 1, file=REFERENCE_FILE, task="classify")
    assert name_of(chosen(unproven, eager, died, yardstick, row("good", 5, parity=0.1))) == "good"


def test_each_foreign_file_is_a_task_of_its_own() -> None:
    rows = (row("x", 2, task="", file="x.onnx"), row("y", 1, task="", file="y.onnx"))
    assert [c.task for c in recommend(BenchReport(describe_environment(), rows), 8.0)] == ["x", "y"]


def test_the_most_whole_level_counts() -> None:
    choice = chosen(row("a", 1), row("a", 9, level=Level.PICTURE))
    assert choice.row is None and "p90 of 9.00 ms" in choice.reason


def test_each_task_has_its_choice_and_its_command() -> None:
    rows = [
        row("landmarks", 1, file="shipped"),
        row("my net", 2, task="detector", file="my net.onnx"),
        row("ages", 2, task="age-gender", provider="cuda"),
        row("best", 2, task="classify", file="-best.pt"),
        row("x", 2, task="", file="x.onnx"),
    ]
    choices = recommend(BenchReport(describe_environment(), tuple(rows)), 8.0)
    assert [command_of(choice.row) for choice in choices if choice.row is not None] == [
        "mien webcam --precision fp32 --provider cpu --threads 2",
        "mien webcam --detector 'my net.onnx' --provider cpu --threads 2",
        "mien webcam --age-gender ages.onnx --provider cuda --threads 2",
        "mien export ./-best.pt -o ./-best.onnx && "
        "mien predict PICTURES --model ./-best.onnx --provider cpu --threads 2",
        "x.onnx on cpu (mien has no command for a foreign model)",
    ]
    assert "accuracy was not measured" in choices[0].reason


@pytest.mark.parametrize(("text", "ms"), [("8ms", 8.0), (" 0.5 s ", 500.0), ("250us", 0.25), ("250µs", 0.25)])
def test_budgets_are_read(text: str, ms: float) -> None:
    assert parse_budget(text) == pytest.approx(ms)


@pytest.mark.parametrize("text", ["8", "ms", "-8ms", "0ms", "8 min"])
def test_budgets_that_are_none_are_told(text: str) -> None:
    with pytest.raises(InputError, match="expected a duration such as 8ms"):
        parse_budget(text)
