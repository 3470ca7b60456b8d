from __future__ import annotations

import csv
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mien.export.convert.to_onnx import export_onnx
from mien.export.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mien.export.training import loop, run_state
from mien.export.training.batches import load_batches
from mien.export.training.config import NetworkConfig, TrainConfig
from mien.export.training.curves import plot_run
from mien.export.training.loop import fit, one_cycle
from mien.export.training.run_state import BEST, LAST, check_run
from mien.export.training.tasks import classify
from mien.export.training.tasks.age_gender import AgeGenderTraining
from mien.export.training.tasks.classify import ClassifyTraining
from mien.export.training.tasks.detector import DetectorTraining
from mien.export.training.tasks.frozen_backbone import FrozenBackboneAgeGenderTraining, FrozenBackboneLandmarkTraining
from mien.export.training.tasks.landmarks import LandmarkTraining
from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.errors import InputError, ModelError, OutputError, ProcessFailed
from mien.runtime.models.spec import ModelSpec, Task

SPEC = ModelSpec(task=Task.LANDMARKS, input_size=(64, 64), outputs=("landmarks", "presence"))


SMALL = NetworkConfig("small", "none")


def tiny_training(folder: Path) -> LandmarkTraining:
    torch.manual_seed(0)  # the same untrained network each time
    return LandmarkTraining(folder, SMALL, input_size=64)


def tiny_age_gender(folder: Path) -> AgeGenderTraining:
    torch.manual_seed(0)
    return AgeGenderTraining(folder, SMALL, input_size=64)


def tiny_classifier(folder: Path) -> ClassifyTraining:
    torch.manual_seed(0)
    return ClassifyTraining(folder, SMALL, input_size=64)


def from_scratch(folder: Path) -> ClassifyTraining:
    torch.manual_seed(0)
    return ClassifyTraining(folder, NetworkConfig("reslayer", "none"), input_size=64)


def chapter_landmarks(folder: Path) -> FrozenBackboneLandmarkTraining:
    torch.manual_seed(0)
    return FrozenBackboneLandmarkTraining(folder, SMALL)


def chapter_age_gender(folder: Path) -> FrozenBackboneAgeGenderTraining:
    torch.manual_seed(0)
    return FrozenBackboneAgeGenderTraining(folder, SMALL)


def tiny_detector(folder: Path) -> DetectorTraining:
    torch.manual_seed(0)
    return DetectorTraining([folder], SMALL, input_size=128, scenes=16)


TASKS = [
    (tiny_training, "landmark_folder"),
    (tiny_age_gender, "age_gender_folder"),
    (tiny_classifier, "class_folder"),
    (from_scratch, "class_folder"),
    (chapter_landmarks, "landmark_folder"),
    (chapter_age_gender, "age_gender_folder"),
    (tiny_detector, "boxed_folder"),
]


def config(epochs: int) -> TrainConfig:
    return TrainConfig(epochs=epochs, batch_size=8, learning_rate=2e-3, workers=0, average=0.5)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def interrupt_in_second_epoch(task: Any) -> None:
    """Stop as Ctrl-C does."""
    validate = task.validate
    calls = iter(range(2))

    def until_the_second(net: torch.nn.Module) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return validate(net)

    task.validate = until_the_second


@pytest.mark.parametrize(("training", "material"), TASKS, ids=lambda v: getattr(v, "__name__", ""))
def test_resumed_training_equals_an_unbroken_one(
    training: Any, material: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(material)
    whole = fit(training(folder), config(2), tmp_path / "whole")
    broken = training(folder)
    interrupt_in_second_epoch(broken)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, config(2), tmp_path / "broken")
    resumed = fit(training(folder), config(2), tmp_path / "broken", resume=True)
    a, b = (load_checkpoint(tmp_path / run / LAST).weights for run in ("whole", "broken"))
    assert all(torch.allclose(a[k].float(), b[k].float(), atol=1e-6) for k in a)
    assert resumed.metrics == pytest.approx(whole.metrics)
    rows = rows_of(tmp_path / "broken" / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"] and float(rows[1][broken.score]) > 0


@pytest.mark.parametrize(("training", "material"), TASKS[1:-1], ids=lambda v: getattr(v, "__name__", ""))
def test_what_was_trained_is_exported(
    training: Any, material: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each kind of network but those that test_to_onnx.py exports."""
    fit(training(request.getfixturevalue(material)), config(1), tmp_path / "run")
    exported = export_onnx(tmp_path / "run" / BEST, tmp_path / "model.onnx")
    assert all(exported.parities)
    with OnnxRunner(exported.path) as runner:
        outputs = runner(np.zeros((3, *runner.spec.input_size, 3), np.uint8))
    assert set(outputs) == set(runner.spec.outputs) and all(len(v) == 3 for v in outputs.values())


def test_curves_are_drawn_after_each_epoch(class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[np.ndarray] = []

    def draw(*curves: Any, path: Path, **options: Any) -> None:
        plot_run(*curves, path=path, **options)
        drawn.append(cv2.imread(str(path)))

    monkeypatch.setattr(run_state, "plot_run", draw)
    fit(from_scratch(class_folder), config(2), tmp_path / "run")
    first, second = drawn
    assert first.shape == second.shape and (first != second).any()


def test_an_epoch_and_a_frozen_backbone_without_weights_are_told(
    class_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "mien"):
        fit(tiny_classifier(class_folder), config(1), tmp_path / "frozen")
        fit(from_scratch(class_folder), config(1), tmp_path / "scratch")
    told = "\n".join(caplog.messages)
    assert told.count("the frozen backbone is untrained") == 1
    assert len(re.findall(r"^epoch 1: trn_loss \S+  val_loss \S+  accuracy \S+$", told, re.MULTILINE)) == 2


def test_training_learns(landmark_folder: Path, tmp_path: Path) -> None:
    best = fit(tiny_training(landmark_folder), config(12), tmp_path / "run")
    losses = [float(row["trn_loss"]) for row in rows_of(tmp_path / "run" / "metrics.csv")]
    assert losses[-1] < 0.8 * losses[0]
    assert best.spec.dims == 3 and best.spec.provenance["backbone"] == "small"


def test_tensorboard_is_told_where_it_is_installed(
    class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "run" / "tensorboard")

        def add_scalar(self, name: str, value: float, epoch: int) -> None:
            told.append((name, epoch))

        def flush(self) -> None: ...

        def close(self) -> None:
            told.append(("closed", 0))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    fit(from_scratch(class_folder), config(2), tmp_path / "run")
    assert {("trn_loss", 1), ("val_loss", 2), ("accuracy", 2)} <= set(told) and told[-1] == ("closed", 0)


def test_two_shares_are_an_epoch() -> None:
    table = list(range(11))
    train = TrainConfig(epochs=1, batch_size=2, learning_rate=1e-3, workers=0)
    shares = [load_batches(table, 3, train, rank=rank, world_size=2) for rank in (0, 1)]
    seen = [[int(i) for batch in share for i in batch] for share in shares]
    assert len(seen[0]) == len(seen[1]) == 4 and not set(seen[0]) & set(seen[1])  # whole batches only
    again = [int(i) for batch in load_batches(table, 3, train, rank=0, world_size=2) for i in batch]
    other = [int(i) for batch in load_batches(table, 4, train, rank=0, world_size=2) for i in batch]
    assert again == seen[0] != other


@pytest.mark.parametrize("name", ["best.pt", "metrics.csv", "curves.png"])
def test_a_file_of_someone_else_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"would overwrite .*{name}; choose another --out"):
        check_run(tmp_path, resume=False)
    check_run(tmp_path / "new", resume=False)


def test_a_run_is_not_overwritten_and_not_resumed_by_another(landmark_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to resume"):
        fit(tiny_training(landmark_folder), config(1), tmp_path / "run", resume=True)
    fit(tiny_training(landmark_folder), config(1), tmp_path / "run")
    with pytest.raises(InputError, match="already contains a run; continue it with --resume"):
        fit(tiny_training(landmark_folder), config(1), tmp_path / "run")
    with pytest.raises(InputError, match=r"trained with other settings \(frozen was False, is True\); use the same"):
        fit(
            LandmarkTraining(landmark_folder, SMALL, input_size=64, frozen=True),
            config(1),
            tmp_path / "run",
            resume=True,
        )
    with pytest.raises(InputError, match=r"trained with other settings \(seed was 0, is 1\)"):
        fit(tiny_training(landmark_folder), replace(config(1), seed=1), tmp_path / "run", resume=True)


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_two_trainings_do_not_share_a_folder(class_folder: Path, tmp_path: Path) -> None:
    import fcntl

    out = tmp_path / "run"
    fit(from_scratch(class_folder), config(1), out)
    before = (out / LAST).read_bytes()
    other = os.open(out, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(InputError, match=r"another process is training in .*run; wait for it, or choose another --out"):
        fit(from_scratch(class_folder), config(2), out, resume=True)
    os.close(other)
    assert (out / LAST).read_bytes() == before
    fit(from_scratch(class_folder), config(2), out, resume=True)


def test_a_training_that_another_overtook_does_not_overwrite_it(
    class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, real = tmp_path / "run" / LAST, loop._fabric

    def while_another_trains(train: TrainConfig) -> Any:
        theirs.parent.mkdir()
        theirs.write_bytes(b"theirs")
        return real(train)

    monkeypatch.setattr(loop, "_fabric", while_another_trains)
    with pytest.raises(InputError, match="already contains a run"):
        fit(from_scratch(class_folder), config(1), tmp_path / "run")
    assert theirs.read_bytes() == b"theirs"


def lose_the_picture(*_: Any) -> None:
    raise InputError("no file face.jpg; add it")


def get_killed(*_: Any) -> None:
    raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")  # as PyTorch says, but at any time


def find_no_memory(*_: Any) -> None:
    raise RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you …"
    )


@pytest.mark.parametrize(
    ("fail", "workers", "kind", "message"),
    [
        (lose_the_picture, 0, InputError, r"^no file face\.jpg; add it$"),
        (lose_the_picture, 1, InputError, r"^no file face\.jpg; add it$"),
        (get_killed, 0, ProcessFailed, r"^a process that prepares batches ended \(DataLoader worker .*use --workers 0"),
        (find_no_memory, 0, MemoryError, "^in PyTorch; use a smaller --batch-size"),
    ],
)
def test_errors_of_pytorch_become_one_line(
    fail: Any,
    workers: int,
    kind: type[Exception],
    message: str,
    class_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = from_scratch(class_folder)
    monkeypatch.setattr(classify.ClassImages, "__getitem__", fail)
    with pytest.raises(kind, match=message):
        fit(task, replace(config(1), workers=workers), tmp_path / "run")


def test_no_picture_is_read_for_a_learning_rate_that_cannot_be(
    class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = from_scratch(class_folder)
    monkeypatch.setattr(task, "prepare", lambda progress: pytest.fail("something was read first"))
    with pytest.raises(InputError, match="expected a --learning-rate above 0, found nan"):
        fit(task, replace(config(1), learning_rate=float("nan")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def rename(folder: Path) -> None:
    (folder / "square").rename(folder / "box")


def swap(folder: Path) -> None:
    """Exchange the names of the two classes, whose pictures have the same names."""
    (folder / "disc").rename(folder / "other")
    (folder / "square").rename(folder / "disc")
    (folder / "other").rename(folder / "square")


def lose_a_picture(folder: Path) -> None:
    next(file for file in sorted(folder.rglob("*.png"))).unlink()


def change_a_label(folder: Path) -> None:
    labels = next(folder.glob("l*s.csv"))
    lines = labels.read_text().splitlines()
    cells = lines[3].split(",")
    cells[1] = "79" if "age" in lines[0] else "other"
    labels.write_text("\n".join([*lines[:3], ",".join(cells), *lines[4:]]))


OTHER_DATA = [
    (tiny_classifier, "class_folder", rename, "classes was disc, square, is box, disc"),
    (from_scratch, "class_folder", swap, "the labels or the pictures have changed"),
    (tiny_classifier, "class_folder", lose_a_picture, "the labels or the pictures have changed"),
    (tiny_age_gender, "age_gender_folder", change_a_label, "the labels or the pictures have changed"),
    (tiny_training, "landmark_folder", change_a_label, "the labels or the pictures have changed"),
]


@pytest.mark.parametrize(("training", "material", "change", "message"), OTHER_DATA)
def test_a_run_is_not_resumed_on_other_data(
    training: Any,
    material: str,
    change: Any,
    message: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = request.getfixturevalue(material)
    fit(training(folder), config(1), tmp_path / "run")
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*.*")}
    change(folder)
    task = training(folder)
    monkeypatch.setattr(task, "prepare", lambda progress: pytest.fail("something was computed first"))
    with pytest.raises(InputError, match=message) as refused:
        fit(task, config(1), tmp_path / "run", resume=True)
    assert "\n" not in str(refused.value)
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*.*")} == before


def test_a_run_goes_on_for_more_epochs_and_where_its_data_have_moved_to(class_folder: Path, tmp_path: Path) -> None:
    fit(tiny_classifier(class_folder), config(2), tmp_path / "run")
    moved = class_folder.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="was started for 2 epochs; --epochs 1 is fewer"):
        fit(tiny_classifier(moved), config(1), tmp_path / "run", resume=True)
    fit(tiny_classifier(moved), config(3), tmp_path / "run", resume=True)
    assert [row["epoch"] for row in rows_of(tmp_path / "run" / "metrics.csv")] == ["1", "2", "3"]


def test_frozen_backbone_does_not_move(landmark_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = LandmarkTraining(landmark_folder, SMALL, frozen=True, input_size=64)
    before = {k: v.clone() for k, v in task.net.backbone.named_parameters()}
    fit(task, config(1), tmp_path / "run")
    assert all(torch.equal(before[k], v) for k, v in task.net.backbone.named_parameters())


def test_early_stopping(landmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tiny_training(landmark_folder)
    monkeypatch.setattr(task, "validate", lambda net: {"nme": 5.0})
    fit(task, TrainConfig(epochs=9, batch_size=8, learning_rate=1e-4, workers=0, patience=2), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / LAST).training["epoch"] == 3
    assert load_checkpoint(tmp_path / "run" / BEST).spec.provenance["epochs"] == "1 of 9"


def test_what_has_stopped_early_is_not_trained_on(
    landmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = TrainConfig(epochs=9, batch_size=8, learning_rate=1e-4, workers=0, patience=1)
    for resume in (False, True):
        task = tiny_training(landmark_folder)
        monkeypatch.setattr(task, "validate", lambda net: {"nme": 5.0})
        fit(task, train, tmp_path / "run", resume=resume)
        assert load_checkpoint(tmp_path / "run" / LAST).training["epoch"] == 2


def diverge_in_the_score(task: Any) -> None:
    task.validate = lambda net: {"val_loss": float("nan")}


def diverge_in_the_gradient(task: Any) -> None:
    task.losses = lambda outputs, targets: {"root": (0 * outputs).sum().sqrt()}  # 0, but its slope is infinite


def diverge_in_the_loss(task: Any) -> None:
    task.losses = lambda outputs, targets: {"ratio": outputs.sum() * torch.inf}


@pytest.mark.parametrize(
    ("diverge", "message"),
    [
        (diverge_in_the_score, "the val_loss is nan in epoch 2; try a lower --learning-rate"),
        (diverge_in_the_gradient, "the gradient is nan in epoch 2"),
        (diverge_in_the_loss, "the loss is -?inf in epoch 2"),
    ],
)
def test_a_training_that_diverges_ends_with_its_last_good_epoch(
    diverge: Any, message: str, class_folder: Path, tmp_path: Path
) -> None:
    fit(from_scratch(class_folder), config(1), tmp_path / "run")
    good = (tmp_path / "run" / LAST).read_bytes()
    task = from_scratch(class_folder)
    diverge(task)
    with pytest.raises(InputError, match=message):
        fit(task, config(2), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / LAST).read_bytes() == good


def test_one_subject_cannot_be_split(landmark_folder: Path) -> None:
    labels = landmark_folder / "landmarks.csv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:3]))
    with pytest.raises(InputError, match=r"expected at least 2 subjects, to hold one out, found 1"):
        tiny_training(landmark_folder)


def test_learning_rate_rises_and_falls() -> None:
    rates = [one_cycle(p, 0.1) for p in np.linspace(0, 1, 101)]
    assert rates[0] < 0.02 and max(rates) == pytest.approx(1.0, abs=0.01) and rates[-1] == pytest.approx(0, abs=1e-9)
    assert np.argmax(rates) == pytest.approx(10, abs=1)


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    checkpoint = Checkpoint(SPEC, {"backbone": "x"}, {"nme": 4.0}, {"a": torch.arange(3.0)})
    save_checkpoint(tmp_path / "c.pt", checkpoint)
    found = load_checkpoint(tmp_path / "c.pt")
    assert torch.equal(found.weights["a"], checkpoint.weights["a"]) and found.metrics == {"nme": 4.0}
    assert len(found.spec.weights_sha256) == 64
    assert not list(tmp_path.glob("*.partial"))


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    with pytest.raises(ModelError, match="no checkpoint"):
        load_checkpoint(path)
    save_checkpoint(path, Checkpoint(SPEC, {}, {}, {"a": torch.zeros(1000)}))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelError, match="truncated, damaged or not a checkpoint; copy it again"):
        load_checkpoint(path)
    path.write_text("some notes\n")
    with pytest.raises(ModelError, match="is not a checkpoint: it holds text; train one with mien train"):
        load_checkpoint(path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="was not written by mien train"):
        load_checkpoint(path)


class Explosive:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (Path.touch, (Path("exploded"),))


def test_a_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    monkeypatch.chdir(tmp_path)
    Path("c.pt").write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(ModelError, match="not a checkpoint"):
        load_checkpoint(Path("c.pt"))
    assert not Path("exploded").exists()


def test_checkpoint_into_nowhere(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        save_checkpoint(tmp_path / "none" / "c.pt", Checkpoint(SPEC, {}, {}, {}))
