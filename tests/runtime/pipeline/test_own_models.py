"""A user's own landmark, detector and age model is the one that runs, wherever it is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("onnx")

from mien import Pipeline
from mien.cli import app
from mien.runtime.batch.packed_pipeline import open_packed_pipeline, pack_pipeline
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.models.runner import Provider
from mien.runtime.models.spec import Precision
from mien.runtime.output.rows import face_rows
from mien.runtime.pictures.images import read_image
from mien.runtime.pipeline.pipeline_options import PipelineOptions
from mien.runtime.values import size_of
from mien.tests.fakes.own_models import ADDED, own_models_of, write_own_model

PHOTO = find_photo()[0]
PREDICT = ("predict", PHOTO)
WEBCAM = ("webcam", "demo", "--no-show", "--max-frames", 1, "--smooth", 0)
OPTIONS = {"landmarks": "--model", "detector": "--detector", "age_gender": "--age-gender"}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("own")
    return {name: write_own_model(folder / f"{name}.onnx", name) for name in ADDED}


def row_of(command: tuple[object, ...], *options: object) -> dict[str, Any]:
    """The only face that a command reports."""
    words = [*command, "--precision", "fp32", "--provider", "cpu", "--json", "-", *options]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    (face,) = json.loads(done.stdout.splitlines()[0])["faces"]
    return face


def row_from(pipeline: Pipeline) -> dict[str, Any]:
    """The only face that a pipeline finds in the photograph."""
    picture = read_image(PHOTO)
    with pipeline:
        (face,) = face_rows(pipeline(picture), size_of(picture))
    return face


@pytest.mark.parametrize("command", [PREDICT, WEBCAM])
def test_commands_run_the_models_that_they_are_given(command: tuple[object, ...], own: dict[str, Path]) -> None:
    usual = row_of(command)
    for name, option in OPTIONS.items():
        assert own_models_of(row_of(command, option, own[name]), usual) == {name}
    for name in ("detector", "age_gender"):  # a model is used for what it was trained for
        assert own_models_of(row_of(command, "--model", own[name]), usual) == {name}


def test_python_runs_the_models_that_it_is_given(own: dict[str, Path]) -> None:
    options: dict[str, Any] = {"provider": Provider.CPU, "precision": Precision.FP32}
    usual = row_from(Pipeline.load(**options))
    given = {"model": str(own["landmarks"]), "detector": own["detector"], "age_gender": own["age_gender"]}
    assert own_models_of(row_from(Pipeline.load(**given, **options)), usual) == set(own)
    packed = pack_pipeline(PipelineOptions(own["landmarks"], own["detector"], own["age_gender"]), max_side=640)
    assert own_models_of(row_from(open_packed_pipeline(packed)), usual) == set(own)


@pytest.mark.parametrize("command", [PREDICT, WEBCAM])
def test_models_without_presence_and_deviation_are_run(command: tuple[object, ...], tmp_path: Path) -> None:
    """Those of the textbook's networks."""
    landmarks = write_own_model(tmp_path / "landmarks.onnx", "landmarks", without="presence")
    ages = write_own_model(tmp_path / "ages.onnx", "age_gender", without="age_std")
    face, usual = row_of(command, "--model", landmarks, "--age-gender", ages), row_of(command)
    within_px = 6 if command is PREDICT else 0.1  # without presence, there is no second pass in pictures
    assert own_models_of(face, usual, within_px=within_px) == {"landmarks", "age_gender"}
    assert (face["presence"], face["age_std"]) == (1, None) and usual["age_std"] > 0


@pytest.mark.parametrize("name", ADDED)
def test_a_model_that_returns_no_numbers_is_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ADDED, name, (ADDED[name][0], np.float32(np.nan)))
    model = write_own_model(tmp_path / "diverged.onnx", name)
    for command in (PREDICT, WEBCAM):
        done = CliRunner().invoke(app, [*map(str, command), "--model", str(model)])
        assert done.exit_code == 2 and "returned NaN or infinity; use it in fp32, or train it again" in done.stderr
        assert len(done.stderr.splitlines()) == 1
