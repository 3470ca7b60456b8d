"""Networks in PyTorch that model files are compared with, and the reference network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mien.bench.report.report import BenchReport
from mien.bench.suite.benchmark import run_bench
from mien.bench.suite.options import Baseline
from mien.bench.suite.post_checks import PostRunChecks
from mien.bench.suite.session import BenchmarkSession
from mien.bench.timing.environment import describe_environment
from mien.bench.worker.candidate import Candidate
from mien.cli import app
from mien.export.bridge import TorchBridge
from mien.runtime.errors import ProcessFailed
from mien.runtime.models.runner import Provider
from mien.runtime.models.shipped import shipped_model
from mien.tests.bench.suite.test_session import QUICK, save_classifier, save_softmax

pytest.importorskip("torch")


def test_baselines_are_compared_with_the_first() -> None:
    options = replace(QUICK, baselines=(Baseline.EAGER, Baseline.CHANNELS_LAST))
    report = run_bench([shipped_model("landmarks")], options, bridge=TorchBridge())
    eager, fast, last = report.rows
    assert [row.measurement.description.provider for row in report.rows] == ["eager-cpu", "cpu", "channels-last-cpu"]
    assert fast.baseline == last.baseline == eager.name and fast.ratio is not None and last.ratio is not None
    assert fast.parity and last.parity and eager.metadata.overhead_us is None
    assert fast.metadata.peak_mib is not None and eager.metadata.peak_mib is not None
    assert fast.metadata.peak_mib < eager.metadata.peak_mib, "a candidate without PyTorch must not import it"


def test_eager_in_float16_is_a_baseline_too() -> None:
    options = replace(QUICK, baselines=(Baseline.EAGER_FP16,), providers=(Provider.CPU,))
    half, fast = run_bench([shipped_model("landmarks")], options, bridge=TorchBridge()).rows
    assert half.name == "landmarks/eager-fp16-cpu/fp16/1" and fast.baseline == half.name
    assert fast.parity and fast.ratio is not None, "the tolerance is that of float16"


def test_files_of_the_same_weights_share_a_baseline(tmp_path: Path) -> None:
    twin = tmp_path / "twin.onnx"
    twin.write_bytes(shipped_model("landmarks").read_bytes())
    report = run_bench(
        [shipped_model("landmarks"), twin], replace(QUICK, baselines=(Baseline.EAGER,)), bridge=TorchBridge()
    )
    assert [row.name for row in report.rows] == [
        "landmarks/eager-cpu/fp32/1",
        "landmarks/cpu/fp32/1",
        "twin/cpu/fp32/1",
    ]
    assert [row.baseline for row in report.rows][1:] == ["landmarks/eager-cpu/fp32/1"] * 2
    assert all(row.ratio is not None for row in report.rows[1:])


def test_the_reference_network_is_compared_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostRunChecks, "run_slow", lambda _: None)
    model, out = save_softmax(tmp_path / "softmax.onnx"), tmp_path / "bench.json"
    quick = ["--rounds", "5", "--calls-per-round", "2", "--processes", "1"]
    result = CliRunner().invoke(app, ["bench", str(model), "--reference-model", *quick, "--json", str(out)])
    assert result.exit_code == 0, result.output
    report = BenchReport.from_json(out.read_text(encoding="utf-8"), origin="bench.json")
    other, eager, fast = report.rows
    assert other.baseline is None and [row.metadata.file for row in (eager, fast)] == ["torchvision"] * 2
    assert fast.baseline == eager.name == "mobilenet_v2 at 224 px/eager-cpu/fp32/1"
    assert fast.parity and fast.ratio is not None, "its weights are the same in each process"


def test_without_a_compiler_the_compiled_baseline_fails_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    path, opener = save_classifier(tmp_path / "c.pt"), TorchBridge().baseline_opener()
    with BenchmarkSession(QUICK, tmp_path) as session:
        session.add(Candidate(model="c", file="c.pt", path=path, device="cpu", opener=opener, baseline="compile"))
        with pytest.raises(ProcessFailed, match=r"c fp32 on compile-cpu, batch 1: .*No working C\+\+ compiler"):
            session.measure(describe_environment())
