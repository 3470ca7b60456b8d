"""Whole benchmarks with real processes: what is lost, what is kept, what is noted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.bench.accuracy.accuracy import Metric, accuracy_of, folder_for
from mien.bench.accuracy.evaluate_attributes import evaluate_age_gender
from mien.bench.accuracy.evaluate_faces import evaluate_landmarks
from mien.bench.commands.bench import end_with
from mien.bench.report.report import BenchReport
from mien.bench.suite import post_checks
from mien.bench.suite import session as sessions
from mien.bench.suite.benchmark import run_bench
from mien.bench.suite.candidates import CandidateRecord
from mien.bench.suite.options import BenchOptions
from mien.bench.suite.post_checks import PostRunChecks
from mien.bench.suite.session import BenchmarkSession
from mien.bench.timing import sensors
from mien.bench.timing.environment import describe_environment
from mien.bench.timing.measurement import Level
from mien.bench.worker.candidate import Candidate, name_of
from mien.bench.worker.openers import open_model
from mien.bench.worker.process import CandidateProcess, FailureKind
from mien.export.bridge import TorchBridge
from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.errors import CheckFailed, InputError, ProcessFailed
from mien.runtime.models.runner import Provider
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import ModelSpec, Task
from mien.tests.processes import MIEN, started, wait_for

QUICK = BenchOptions(rounds=5, calls_per_round=2, processes=1, baselines=(), timeout_s=120)
ODD = Path(__file__).parents[1] / "worker"


def odd(function: str, *, model: str | None = None) -> Candidate:
    """A candidate of `odd_targets`, named by its function."""
    return Candidate(
        model=model or function, file=function, opener=f"odd_targets:{function}", path=Path("0.1"), device="cpu"
    )


def hurry(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Wait only so long for the candidates that hang, whatever the others take to start."""
    start = CandidateProcess.__init__

    def impatient(process: CandidateProcess, candidate: Candidate, *, timeout_s: float) -> None:
        start(process, candidate, timeout_s=seconds if candidate.opener.endswith(":hangs") else timeout_s)

    patch.setattr(CandidateProcess, "__init__", impatient)


def save_classifier(path: Path) -> Path:
    """An untrained classifier of cats and dogs."""
    torch = pytest.importorskip("torch")
    from mien.export.networks.build_network import empty_network
    from mien.export.networks.checkpoint import Checkpoint, save_checkpoint

    torch.manual_seed(0)
    net = empty_network(Task.CLASSIFY, "reslayer")
    spec = ModelSpec(Task.CLASSIFY, (32, 32), ("probabilities",), classes=("cat", "dog"))
    config = {"backbone": "reslayer", "normalization": "imagenet"}
    save_checkpoint(path, Checkpoint(spec, config, {}, net.state_dict()))
    return path


def save_softmax(path: Path) -> Path:
    """A model that mien did not make."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", 7])],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def shipped_landmarks() -> Candidate:
    path = shipped_model("landmarks")
    return Candidate(model="landmarks", file="shipped", opener=name_of(open_model), path=path, device="cpu")


def test_the_one_that_crashes_is_told_and_the_others_finish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ODD)
    hurry(monkeypatch, 1)
    with BenchmarkSession(QUICK, tmp_path) as session:
        good = session.add(shipped_landmarks())
        assert good is not None
        for fault in ("aborts", "hangs", "devours", "refuses", "aborts_later"):
            session.add(odd(fault))
        report = session.measure(describe_environment())
    (row,) = report.rows
    assert row.measurement.description.model == "landmarks" and len(row.measurement.rounds_ns) == 5
    assert {one.description.model: one.failure for one in report.failed} == {
        "aborts": FailureKind.CRASHED,
        "hangs": FailureKind.HUNG,
        "devours": FailureKind.OUT_OF_MEMORY,
        "refuses": FailureKind.REFUSED,
        "aborts_later": FailureKind.CRASHED,
    }
    assert BenchReport.from_json(report.to_json(), origin="a") == report


def test_those_that_hang_at_the_same_time_are_waited_for_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ODD)
    limit_s = 3.0
    hurry(monkeypatch, limit_s)
    with BenchmarkSession(QUICK, tmp_path) as session:
        begun = time.monotonic()
        (good,) = session.add_all([odd("hangs", model="a"), odd("sleeps"), odd("hangs", model="b")])
        start_s = (good.process.import_ms + good.process.load_ms) / 1e3
        assert time.monotonic() - begun < 1.5 * limit_s + start_s
        assert good.candidate.model == "sleeps" and not good.cold_starts_ms
        report = session.measure(describe_environment(), slow_checks=False)
    assert [one.failure for one in report.failed] == [FailureKind.HUNG] * 2
    (row,) = report.rows
    assert row.metadata.first_ms is None and row.metadata.overhead_us is None and row.measurement.p50_ms > 0


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[BenchmarkSession]:
    """Two candidates that say the same; the second is compared with the first."""
    monkeypatch.syspath_prepend(ODD)
    with BenchmarkSession(replace(QUICK, data=(tmp_path,)), tmp_path) as session:
        monkeypatch.setattr(session._inputs, "folder_of", lambda spec: None)
        names = []
        for name in ("first", "second"):
            record = session.add(odd("sleeps", model=name))
            assert record is not None
            names.append(record.name)
        session._records.running[names[1]].baseline = names[0]
        yield session


def test_a_pair_has_its_ratio(pair: BenchmarkSession, caplog: pytest.LogCaptureFixture) -> None:
    first, second = pair.measure(describe_environment()).rows
    assert second.parity and second.ratio is not None and 0.5 < second.ratio.value < 2
    assert (second.metadata.overhead_us, second.metadata.nodes_on_provider, second.metadata.nodes) == (1.5, 3, 4)
    assert "1 of its 4 nodes run elsewhere" in second.warnings
    assert first.accuracy is None and "no accuracy for first" in caplog.text  # the folder holds no classes


def test_each_launch_is_a_process_of_its_own(pair: BenchmarkSession) -> None:
    pair._options = replace(pair._options, rounds=5, processes=2)
    pids = {record.process._process.pid for record in pair._records.running.values()}
    seen: list[tuple[int, int]] = []
    report = pair.measure(describe_environment(), progress=lambda done, rounds: seen.append((done, rounds)))
    assert seen == [(i, 5) for i in range(1, 6)]
    for row in report.rows:
        assert [len(run.latencies_ns) for run in row.measurement.processes] == [3, 2]
        assert all(run.warm_up_ns for run in row.measurement.processes)
    assert report.rows[1].ratio is not None and report.rows[1].ratio.rounds == 5
    assert pids.isdisjoint(record.process._process.pid for record in pair._records.running.values())
    assert all(len(record.cold_starts_ms) == 2 for record in pair._records.running.values())
    assert report.conditions is not None and report.conditions.processes == 2 and len(report.conditions.readings) == 7
    assert BenchOptions(rounds=20, processes=3).rounds_by_process == [7, 7, 6]
    assert BenchOptions(rounds=2, processes=5).rounds_by_process == [1, 1]


def test_ctrl_c_between_launches_keeps_the_launches_before(
    pair: BenchmarkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient() -> None:
        raise KeyboardInterrupt

    pair._options = replace(pair._options, rounds=10, processes=2)
    monkeypatch.setattr(pair, "_restart", impatient)
    report = pair.measure(describe_environment())
    assert report.conditions is not None and report.conditions.interrupted
    assert [len(row.measurement.rounds_ns) for row in report.rows] == [5, 5] and report.rows[1].ratio is not None


def test_one_that_does_not_come_up_again_is_lost(pair: BenchmarkSession, tmp_path: Path) -> None:
    pair._options = replace(pair._options, rounds=10, processes=2)
    first, second = list(pair._records.running)
    process = pair._records.running[first].process
    process.candidate = replace(process.candidate, opener="odd_targets:refuses")
    report = pair.measure(describe_environment())
    assert [row.name for row in report.rows] == [second] and report.failed[0].failure is FailureKind.REFUSED
    assert "no ratio: its baseline" in " ".join(report.rows[0].warnings)


def test_outputs_that_cannot_be_compared_are_a_false_parity(
    pair: BenchmarkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_shapes(*_: object) -> None:
        raise CheckFailed("logits: the reference has shape (8, 1), the candidate (8, 2)")

    monkeypatch.setattr(post_checks, "compare_outputs", other_shapes)
    row = pair.measure(describe_environment()).rows[1]
    assert row.parity is not None and not row.parity and row.ratio is None
    assert row.withheld == "its parity check failed (nothing compared)"


def test_a_process_that_is_lost_behind_the_rounds_keeps_them(
    pair: BenchmarkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = list(pair._records.running.values())[1]

    def gone(*_: object) -> None:
        second.process._kill()
        second.process._process.wait()
        raise ProcessFailed("crashed: ended by SIGSEGV")

    monkeypatch.setattr(post_checks, "compare_outputs", gone)
    report = pair.measure(describe_environment())
    assert [len(row.measurement.rounds_ns) for row in report.rows] == [5, 5] and not report.failed
    assert report.rows[1].withheld == "its parity was not checked"
    assert [row.metadata.failure for row in report.rows] == ["", "crashed: ended by SIGSEGV"]
    assert "after the rounds: crashed: ended by SIGSEGV" in report.rows[1].warnings[-1]
    with pytest.raises(CheckFailed, match="after the rounds"):
        end_with(report)


def test_the_baseline_is_lost_where_it_was_the_baseline(pair: BenchmarkSession) -> None:
    first = next(iter(pair._records.running.values()))
    check = PostRunChecks._note_memory

    def lose_it(checks: PostRunChecks, record: CandidateRecord) -> None:
        check(checks, record)
        first.process._kill()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PostRunChecks, "_note_memory", lose_it)
        report = pair.measure(describe_environment())
    assert [bool(row.metadata.failure) for row in report.rows] == [True, False]
    assert report.rows[1].withheld == "its parity was not checked"


def test_two_ways_to_one_name_are_lost_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ODD)
    with BenchmarkSession(QUICK, tmp_path) as session:
        good = session.add(shipped_landmarks())
        assert good is not None
        for _ in range(2):
            session.add(odd("refuses", model="x"))
        assert len(session.measure(describe_environment()).failed) == 1
    with BenchmarkSession(QUICK, tmp_path) as session:
        session.add(odd("wants_nothing", model="x"))
        assert session._records.failed
        session.add(odd("sleeps", model="x"))
        report = session.measure(describe_environment())
        assert not report.failed and len(report.rows) == 1


def test_ctrl_c_behind_the_rounds_leaves_a_report(pair: BenchmarkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(post_checks, "accuracy_of", impatient)
    report = pair.measure(describe_environment())
    assert report.conditions is not None and report.conditions.interrupted
    assert report.rows[1].ratio is not None and report.rows[0].accuracy is None


def test_when_none_is_left_that_is_an_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(
        ProcessFailed, match=r"no candidate could be measured: .*not a model that ONNX Runtime can load"
    ):
        run_bench([broken], QUICK, bridge=TorchBridge())
    with pytest.raises(InputError, match="no file"):
        run_bench([tmp_path / "none.onnx"], QUICK, bridge=TorchBridge())
    with pytest.raises(InputError, match="at least 1 round"):
        run_bench([], replace(QUICK, rounds=0), bridge=TorchBridge())


def test_each_level_and_the_facts_of_a_model() -> None:
    options = replace(QUICK, levels=(Level.MODEL, Level.PICTURE), batches=(1, 2))
    report = run_bench([shipped_model("landmarks")], options, bridge=TorchBridge())
    found = {row.name: row for row in report.rows}
    assert set(found) == {f"landmarks/cpu/fp32/{rest}" for rest in ("1", "2", "1/picture")}
    metadata = found["landmarks/cpu/fp32/1"].metadata
    assert metadata.size_bytes == shipped_model("landmarks").stat().st_size and metadata.import_ms and metadata.load_ms
    assert metadata.first_ms and metadata.peak_mib and metadata.peak_mib < 400 and metadata.overhead_us is not None
    assert found["landmarks/cpu/fp32/1/picture"].measurement.p50_ms > 0
    assert report.conditions is not None and len(report.conditions.readings) == 6 and not report.conditions.interrupted
    assert report.conditions.priming_calls == 1 and all(
        row.measurement.description.task == "landmarks" for row in report.rows
    )


def test_a_provider_that_is_not_there_is_lost_and_not_replaced() -> None:
    report = run_bench(
        [shipped_model("landmarks")], replace(QUICK, providers=(Provider.CPU, Provider.CUDA)), bridge=TorchBridge()
    )
    (failed,) = report.failed
    assert [row.measurement.description.provider for row in report.rows] == ["cpu"]
    assert failed.failure is FailureKind.REFUSED and failed.description.provider == "cuda"
    only_once = run_bench(
        [shipped_model("landmarks")], replace(QUICK, providers=(Provider.CPU, Provider.AUTO)), bridge=TorchBridge()
    )
    assert [row.measurement.description.provider for row in only_once.rows] == ["cpu"]


def test_accuracy_is_that_of_mien_evaluate_on_held_out_pictures(landmark_folder: Path, age_gender_folder: Path) -> None:
    options = replace(QUICK, data=(age_gender_folder, landmark_folder), held_out=True, rounds=2)
    report = run_bench([shipped_model("landmarks"), shipped_model("age_gender")], options, bridge=TorchBridge())
    points, ages = (row.accuracy for row in report.rows)
    assert points is not None and ages is not None
    with OnnxRunner(shipped_model("landmarks"), provider=Provider.CPU) as runner:
        wanted = evaluate_landmarks(runner, landmark_folder, held_out=True).summary
    assert points.value == pytest.approx(wanted["nme"], abs=1e-3) and points.count == wanted["count"] < 24
    with OnnxRunner(shipped_model("age_gender"), provider=Provider.CPU) as runner:
        wanted = evaluate_age_gender(runner, age_gender_folder, held_out=True).summary
        with pytest.raises(InputError):
            accuracy_of(runner, landmark_folder)
    assert ages.value == pytest.approx(wanted["mae_years"], abs=1e-3) and ages.count == wanted["count"] < 40
    assert (points.metric, ages.metric) == (Metric.NME, Metric.MAE)


def test_labels_that_do_not_fit_lose_nothing_that_was_measured(class_folder: Path, tmp_path: Path) -> None:
    """A classifier of cats is measured on a folder of shapes: its speed stands, its accuracy is not told."""
    from mien.export.convert.to_onnx import export_onnx

    save_classifier(tmp_path / "c.pt")
    model = export_onnx(tmp_path / "c.pt", tmp_path / "c.onnx", data=class_folder).path
    (row,) = run_bench([model], replace(QUICK, data=(class_folder,)), bridge=TorchBridge()).rows
    assert row.accuracy is None and row.measurement.p50_ms > 0


def test_a_folder_is_for_the_task_whose_labels_it_has(
    landmark_folder: Path, age_gender_folder: Path, class_folder: Path
) -> None:
    folders = [age_gender_folder, landmark_folder, class_folder]
    assert folder_for(Task.LANDMARKS, folders) == landmark_folder
    assert folder_for(Task.AGE_GENDER, folders) == age_gender_folder
    assert folder_for(Task.CLASSIFY, folders) == class_folder
    assert folder_for(Task.DETECTOR, folders) is None
    assert folder_for(Task.LANDMARKS, []) is None


def test_power_is_noted_where_a_sensor_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_checks, "board_power_w", lambda: 5.0)
    monkeypatch.setattr(post_checks, "POWER_S", 0.3)
    (row,) = run_bench([shipped_model("landmarks")], QUICK, bridge=TorchBridge()).rows
    assert row.metadata.power_w == 5.0 and row.metadata.energy_mj is not None
    # The power is read while other calls run than those that were timed, perhaps beside another program.
    assert 0.1 < row.metadata.energy_mj / (5 * row.measurement.p50_ms) < 10


def test_a_gpus_memory_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter(range(100, 1000, 50))

    def read(*, gpu: bool = False) -> sensors.Reading:
        return sensors.Reading(gpu_memory_mib=float(next(used)))

    monkeypatch.setattr(sessions, "has_nvidia_smi", lambda: True)
    monkeypatch.setattr(sessions, "read_sensors", read)
    monkeypatch.setattr(post_checks, "read_sensors", lambda **_: sensors.Reading())
    (row,) = run_bench([shipped_model("landmarks")], replace(QUICK, rounds=1), bridge=TorchBridge()).rows
    assert row.metadata.device_mib == 50.0


def test_a_given_file_feeds_a_foreign_model(tmp_path: Path) -> None:
    model = save_softmax(tmp_path / "softmax.onnx")
    report = run_bench([model], replace(QUICK, levels=(Level.MODEL, Level.PICTURE)), bridge=TorchBridge())
    (row,) = report.rows
    assert "x 1×7: noise" in row.metadata.inputs and row.measurement.description.precision is None
    assert "only be measured at the level model" in report.failed[0].reason
    (row,) = run_bench([model], replace(QUICK, batches=(3,)), bridge=TorchBridge()).rows
    assert row.name == "softmax/cpu/unknown/3", "the file leaves its batch open"
    feed = tmp_path / "feed.npz"
    np.savez(feed, x=np.ones((3, 2, 7), np.float32))
    (row,) = run_bench([model], replace(QUICK, feed=feed), bridge=TorchBridge()).rows
    assert row.metadata.inputs == "inputs from the given file"
    assert row.measurement.description.batch == 2, "1 is what nobody asked for"
    report = run_bench([model], replace(QUICK, feed=feed, batches=(1, 8)), bridge=TorchBridge())
    assert [row.name for row in report.rows] == ["softmax/cpu/unknown/2"]
    (failed,) = report.failed
    assert failed.description.name == "softmax/cpu/unknown/8" and failed.failure is FailureKind.REFUSED
    assert failed.reason == "--batch is 8, but the inputs hold 2 images per call"
    feed.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"is not an \.npz file"):
        run_bench([model], replace(QUICK, feed=feed), bridge=TorchBridge())


def test_ctrl_c_leaves_the_rounds_so_far_in_a_valid_report(tmp_path: Path) -> None:
    out, page, screen = (tmp_path / name for name in ("b.json", "b.html", "screen"))
    command = [*MIEN, "bench", shipped_model("landmarks"), "--baseline", "none", "--rounds", 100000]
    command += ["--calls-per-round", 5, "--json", out, "--html", page]
    drawn = os.environ | {"FORCE_COLOR": "1"}  # its progress, once a round, though its screen is a file
    with (
        screen.open("wb") as stderr,
        started(*command, stdout=subprocess.PIPE, stderr=stderr, env=drawn) as process,
    ):
        wait_for(lambda: screen.read_text().count("bench") > 3, seconds=120)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the whole group
        stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130, screen.read_text()
    report = BenchReport.from_json(out.read_text(encoding="utf-8"), origin="b.json")
    assert report.conditions is not None and report.conditions.interrupted and "the run was interrupted" in stdout
    (row,) = report.rows
    assert 1 <= len(row.measurement.rounds_ns) < 100000 and row.metadata.peak_mib is not None
    assert json.loads(out.read_text())["conditions"]["rounds"] == 100000
    assert page.read_text().startswith("<!doctype html>")
