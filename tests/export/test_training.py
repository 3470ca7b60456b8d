from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.export.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mien.export.history import Report
from mien.export.prologue import Normalisation
from mien.export.train_landmarks import LandmarkTraining
from mien.export.train_loop import BEST, LAST, TrainConfig, fit, one_cycle
from mien.runtime.errors import InputError, ModelError, OutputError
from mien.runtime.spec import ModelSpec, Task

SPEC = ModelSpec(task=Task.LANDMARKS, input_size=(64, 64), outputs=("landmarks", "presence"))


def tiny_training(folder: Path) -> LandmarkTraining:
    torch.manual_seed(0)  # the same untrained network each time
    return LandmarkTraining(
        folder,
        backbone="mobilenet_v3_small",
        weights="none",
        normalisation=Normalisation.IMAGENET,
        frozen=False,
        input_size=64,
    )


def config(epochs: int) -> TrainConfig:
    return TrainConfig(epochs=epochs, batch_size=8, learning_rate=2e-3, workers=0, average=0.5)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


class Interrupted(LandmarkTraining):
    """Stops in the second epoch, as Ctrl-C does."""

    def batches(self, epoch: int, train: TrainConfig):  # type: ignore[no-untyped-def]
        if epoch == 1:
            raise KeyboardInterrupt
        return super().batches(epoch, train)


def test_resumed_training_equals_an_unbroken_one(landmark_folder: Path, tmp_path: Path) -> None:
    whole = fit(tiny_training(landmark_folder), config(2), tmp_path / "whole")
    broken = tiny_training(landmark_folder)
    broken.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        fit(broken, config(2), tmp_path / "broken")
    resumed = fit(tiny_training(landmark_folder), config(2), tmp_path / "broken", resume=True)
    a, b = (load_checkpoint(tmp_path / run / LAST).weights for run in ("whole", "broken"))
    assert all(torch.allclose(a[k].float(), b[k].float(), atol=1e-6) for k in a)
    assert resumed.metrics == pytest.approx(whole.metrics)
    rows = rows_of(tmp_path / "broken" / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"] and float(rows[1]["nme"]) > 0
    assert (tmp_path / "broken" / "curves.png").stat().st_size > 1000


def test_training_learns(landmark_folder: Path, tmp_path: Path) -> None:
    best = fit(tiny_training(landmark_folder), config(8), tmp_path / "run")
    losses = [float(row["trn_loss"]) for row in rows_of(tmp_path / "run" / "metrics.csv")]
    assert losses[-1] < 0.8 * losses[0]
    assert best.spec.dims == 3 and best.spec.provenance["backbone"] == "mobilenet_v3_small"


def test_a_run_is_not_overwritten_and_not_resumed_by_another(landmark_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to resume"):
        fit(tiny_training(landmark_folder), config(1), tmp_path / "run", resume=True)
    fit(tiny_training(landmark_folder), config(1), tmp_path / "run")
    with pytest.raises(InputError, match="already holds a training; add --resume"):
        fit(tiny_training(landmark_folder), config(1), tmp_path / "run")
    with pytest.raises(InputError, match=r"trained with other settings \(train\)"):
        fit(tiny_training(landmark_folder), config(3), tmp_path / "run", resume=True)


def test_frozen_backbone_does_not_move(landmark_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = LandmarkTraining(
        landmark_folder,
        backbone="mobilenet_v3_small",
        weights="none",
        normalisation=Normalisation.IMAGENET,
        frozen=True,
        input_size=64,
    )
    before = {k: v.clone() for k, v in task.net.backbone.named_parameters()}
    fit(task, config(1), tmp_path / "run")
    assert all(torch.equal(before[k], v) for k, v in task.net.backbone.named_parameters())


def test_early_stopping(landmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tiny_training(landmark_folder)
    monkeypatch.setattr(task, "validate", lambda net: {"nme": 5.0})
    fit(task, TrainConfig(epochs=9, batch_size=8, learning_rate=1e-4, workers=0, patience=2), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / LAST).training["epoch"] == 3
    assert load_checkpoint(tmp_path / "run" / BEST).spec.provenance["epochs"] == "1 of 9"


def test_one_subject_cannot_be_split(landmark_folder: Path) -> None:
    labels = landmark_folder / "landmarks.csv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:3]))
    with pytest.raises(InputError, match=r"1 subject\(s\) are too few"):
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
    with pytest.raises(ModelError, match="truncated or not a checkpoint"):
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


def test_report_averages_by_epoch(tmp_path: Path) -> None:
    seconds = iter([0.0, 10.0])
    report = Report(4, clock=lambda: next(seconds))
    report.record(0.5, trn_loss=4.0)
    report.record(1.0, trn_loss=2.0, val_loss=3.0)
    report.record(2.0, trn_loss=1.0)
    assert report.report_avgs(1) == {"trn_loss": 3.0, "val_loss": 3.0}
    assert report.report_avgs(2) == {"trn_loss": 1.0}
    assert report.seconds_left() == pytest.approx(10.0)
    report.save_csv(tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text().split() == ["epoch,trn_loss,val_loss", "1,3,3", "2,1,"]
    with pytest.raises(TypeError):
        report.record(1.0, 2.0)  # type: ignore[misc]
