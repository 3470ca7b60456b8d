"""A file in smaller numbers is as accurate as float32, by no more than was promised, or it is not written."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from typer.testing import CliRunner

from mien.bench.accuracy.accuracy import Accuracy, Metric, folder_for
from mien.cli import app
from mien.export.convert import gates
from mien.export.convert.gates import MAX_LOSS, AccuracyLoss, measure_reference
from mien.export.convert.to_onnx import export_onnx
from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.errors import CheckFailed
from mien.runtime.models.runner import Runner
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import ModelSpec, Precision, Task
from mien.runtime.values import FloatArray, Image

SHIPPED = shipped_model("landmarks")


def accuracy(metric: Metric, value: float) -> Accuracy:
    return Accuracy(metric, value, 405, (), "digest")


@pytest.mark.parametrize(
    ("metric", "value", "found", "holds"),
    [
        (Metric.NME, 3.98, 4.02, True),
        (Metric.NME, 3.98, 4.04, False),
        (Metric.NME, 3.98, 1.0, True),
        (Metric.MAE, 5.0, 5.09, True),
        (Metric.MAE, 5.0, 5.11, False),
        (Metric.AP50, 87.0, 86.9, True),
        (Metric.AP50, 87.0, 86.7, False),
        (Metric.ACCURACY, 95.0, 99.0, True),
    ],
)
def test_what_fp16_may_lose(metric: Metric, value: float, found: float, holds: bool) -> None:
    tolerance = MAX_LOSS[Precision.FP16][metric]
    assert bool(AccuracyLoss(accuracy(metric, value), accuracy(metric, found), tolerance)) is holds


def test_promises_are_these() -> None:
    assert MAX_LOSS[Precision.FP16][Metric.NME] == 0.05 and MAX_LOSS[Precision.FP16][Metric.MAE] == 0.1
    assert MAX_LOSS[Precision.INT8][Metric.NME] == 0.2
    assert all(set(limits) == set(Metric) for limits in MAX_LOSS.values())


def test_a_file_is_measured_beside_its_reference(landmark_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "half.onnx"
    done = export_onnx(SHIPPED, target, data=landmark_folder, precision=Precision.FP16)
    assert done.accuracy and done.accuracy.found.metric is Metric.NME
    assert done.accuracy.found.data_digest == done.accuracy.reference.data_digest
    assert export_onnx(SHIPPED, target, precision=Precision.FP16).accuracy is None
    assert export_onnx(SHIPPED, target, data=landmark_folder).accuracy is None  # float32 is held to 0.05 px


def test_a_file_that_loses_more_is_not_written(
    landmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = gates.accuracy_of
    measured: list[Accuracy] = []

    def worse_each_time(*arguments: object, **options: object) -> Accuracy:
        found = real(*arguments, **options)  # type: ignore[arg-type]
        measured.append(replace(found, value=found.value + 0.06 * len(measured)))
        return measured[-1]

    monkeypatch.setattr(gates, "accuracy_of", worse_each_time)
    with pytest.raises(CheckFailed, match=r"accuracy check failed: nme .*lost 0\.06.*, may lose 0\.05\)"):
        export_onnx(SHIPPED, tmp_path / "half.onnx", data=landmark_folder, precision=Precision.FP16)
    assert not list(tmp_path.glob("*.onnx*"))


def test_labels_of_another_task_are_none(age_gender_folder: Path, class_folder: Path, landmark_folder: Path) -> None:
    with OnnxRunner(SHIPPED) as runner:
        assert measure_reference(runner, [age_gender_folder, class_folder]) is None
        found = measure_reference(runner, [class_folder, landmark_folder])
        assert found is not None and found.folder == landmark_folder


class AlwaysDisc:
    """Classifier that takes every picture for a disc."""

    spec = ModelSpec(Task.CLASSIFY, (48, 48), ("probabilities",), classes=("disc", "square"))

    def __call__(self, images: Image) -> dict[str, FloatArray]:
        return {"probabilities": np.tile([1.0, 0.0], (len(images), 1))}


def test_a_classifier_is_measured_on_a_data_set_in_parts(
    class_folder: Path, age_gender_folder: Path, tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    for name in ("disc", "square"):
        for i, file in enumerate(sorted((class_folder / name).iterdir())):
            part = parts / ("training_set" if i < 12 else "test_set") / name
            part.mkdir(parents=True, exist_ok=True)
            shutil.move(file, part / file.name)
    reference: Runner = AlwaysDisc()  # type: ignore[assignment]
    found = measure_reference(reference, [age_gender_folder, parts])
    assert found is not None and found.folder == parts
    assert (found.accuracy.value, found.accuracy.count) == (50.0, 8)  # the test set
    assert measure_reference(reference, [age_gender_folder]) is None
    assert folder_for(Task.CLASSIFY, [tmp_path, parts], AlwaysDisc.spec.classes) == parts


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    arguments = ["export", str(SHIPPED), "-o", str(tmp_path / "half.onnx"), "--precision", "fp16"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and "accuracy was not measured" in done.stderr
