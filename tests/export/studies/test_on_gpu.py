"""The comparison of all ways on a GPU, tried on the CPU: its report is complete and honest, and there in any event."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mien.bench.report.report import BenchReport, FailedCandidate
from mien.bench.timing.speedup import Ratio
from mien.bench.worker.candidate import Candidate, name_of
from mien.bench.worker.openers import open_model
from mien.bench.worker.process import FailureKind
from mien.export.studies.on_gpu import MODELS, main, table, verdicts
from mien.export.studies.roofline import Peaks
from mien.runtime.errors import ProviderError
from mien.runtime.models.runner import Provider
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import Precision

WAYS = ["eager-cpu/fp32", "cpu-plain/fp32", "cpu-bound/fp32", "cpu-plain/fp16", "cpu-bound/fp16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a small run leaves."""
    folder = tmp_path_factory.mktemp("study") / "new"
    few = ["--models", "landmarks", "--batches", "1", "2", "--rounds", "5", "--calls", "2"]
    assert main(["--out", str(folder), "--device", "cpu", *few]) == 0
    return folder


def read(folder: Path) -> BenchReport:
    path = folder / "gpu.json"
    return BenchReport.from_json(path.read_text(encoding="utf-8"), origin=str(path))


def test_each_way_is_measured_and_compared_with_eager(folder: Path) -> None:
    report = read(folder)
    assert {row.name for row in report.rows} == {f"landmarks/{way}/{batch}" for way in WAYS for batch in (1, 2)}
    assert not report.failed
    deviations: dict[str, list[float]] = {"fp32": [], "fp16": []}
    for row in report.rows:
        about = row.measurement.description
        assert row.measurement.rounds == (5,) and len(row.measurement.calls_ns) == 10
        assert row.metadata.import_ms is None and row.metadata.load_ms is None, "cold starts disturb each other"
        if about.provider == "eager-cpu":
            assert row.baseline is None
            continue
        assert row.baseline == f"landmarks/eager-cpu/fp32/{about.batch}" and row.parity and row.ratio is not None
        deviations[about.precision.value].append(max(part.max for part in row.parity.parts))
    assert max(deviations["fp32"]) < min(deviations["fp16"]), "an fp16 file rounds, and float32 does not"
    assert "landmarks" in (folder / "gpu.html").read_text(encoding="utf-8")


def test_the_table_shows_the_ends(folder: Path) -> None:
    report = read(folder)
    shown = table(report, Peaks({Precision.FP32: 1e12}, 1e11))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()[2:]]
    assert sorted(f"{provider}/{precision}" for _, provider, precision, *_ in lines) == sorted(WAYS)
    rows = {row.name: row for row in report.rows}
    for _, provider, precision, small, p50_ms, _, large, per_second, ratio, *work, parity in lines:
        first, last = (rows[f"landmarks/{provider}/{precision}/{batch}"] for batch in (small, large))
        assert (small, large) == ("1", "2")
        assert p50_ms == f"{first.measurement.p50_ms:.3f}" and per_second == f"{last.measurement.images_per_second:.0f}"
        assert ratio == ("–" if last.ratio is None else f"{last.ratio.value:.2f}×")
        assert parity == ("–" if first.baseline is None else "ok")
        gflops, of_peak, gbytes, of_bandwidth = (float(cell.rstrip("%")) if cell != "–" else None for cell in work)
        assert gflops == pytest.approx(last.measurement.images_per_second * 0.116, abs=1), "0.116 GFLOP an image"
        assert (of_peak is None) is (precision == "fp16"), "no peak of fp16 was measured"
        assert of_peak is None or of_peak == pytest.approx(gflops / 10, abs=0.1)
        assert of_bandwidth == pytest.approx(gbytes, abs=0.1)
    written = (folder / "gpu.md").read_text(encoding="utf-8")
    assert all(f"| {provider} " in written for _, provider, *_ in lines) and "Peaks measured with PyTorch" in written


def test_what_must_hold_is_judged_by_the_report(folder: Path) -> None:
    report = read(folder)
    assert list(verdicts(report).values()) == [False, False, False], "nothing ran on a GPU, and two models are missing"
    bound = next(row for row in report.rows if row.name == "landmarks/cpu-bound/fp16/1")

    def graph(model: str, precision: str, ratio: float) -> object:
        about = replace(
            bound.measurement.description, name=f"{model}/cuda-graph/{precision}/1", model=model, precision=precision
        )
        return replace(
            bound, measurement=replace(bound.measurement, description=about), ratio=Ratio(ratio, ratio, ratio, 5)
        )

    eager = next(row for row in report.rows if row.name == bound.baseline)
    halves = [graph(model, bound.measurement.description.precision, 2.0) for model in MODELS]
    fast, slow = (graph("landmarks", "fp32", ratio) for ratio in (5.0, 4.99))
    assert all(verdicts(replace(report, rows=(eager, fast, *halves))).values())
    assert list(verdicts(replace(report, rows=(eager, slow, *halves))).values()) == [False, True, True]
    wrong = replace(halves[1], parity=replace(bound.parity, parts=()), ratio=None, withheld="its parity check failed")
    assert list(verdicts(replace(report, rows=(eager, fast, halves[0], wrong, halves[2]))).values()) == [
        True,
        False,
        True,
    ]
    failed = FailedCandidate(fast.measurement.description, FailureKind.CRASHED, "a kernel is missing")
    assert list(verdicts(replace(report, rows=(eager, *halves), failed=(failed,))).values()) == [False, True, False]


def test_without_time_or_models_there_is_still_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--device", "cpu", "--minutes", "0"]) == 0
    report = read(tmp_path)
    assert not report.rows and [f"{model} was not measured" for model in MODELS] == list(report.warnings[-3:])
    assert "the run was interrupted" in report.warnings[0] and report.warnings[0] in capsys.readouterr().out
    assert (tmp_path / "gpu.html").is_file()


def test_a_mode_that_is_not_to_be_had_is_refused() -> None:
    path = shipped_model("landmarks")
    candidate = Candidate(
        model="landmarks", file="a", path=path, device=Provider.CPU.value, opener=name_of(open_model), mode="graph"
    )
    with pytest.raises(ProviderError, match="no CUDA graph was captured"):
        open_model(candidate)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_study_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--out", str(tmp_path / "out")])
    assert end.value.code == 2 and "--device cpu" in capsys.readouterr().err and not (tmp_path / "out").exists()
