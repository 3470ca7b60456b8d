"""What one trains, one can film: models of one's own in mien webcam and mien predict."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("onnx")

from mien.cli import app
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.errors import ModelError
from mien.runtime.faces.classifier import class_probabilities
from mien.runtime.models.shipped import shipped_model
from mien.runtime.output.text import text_size
from mien.runtime.pipeline.pipeline_options import PipelineOptions
from mien.runtime.values import Image
from mien.tests.fakes.brightness_model import SPEC, write_brightness_model

run = CliRunner()
SWITCH = 10
"""Picture of the folder from which on they are dark."""


def mien(*arguments: object, code: int = 0) -> Result:
    result = run.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


def rows_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_brightness_model(tmp_path / "brightness.onnx")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten bright pictures, and ten dark ones."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(2 * SWITCH):
        cv2.imwrite(str(folder / f"{i:02d}.png"), np.full((120, 160, 3), 204 if i < SWITCH else 51, np.uint8))
    return folder


def bars_of(picture: np.ndarray) -> int:
    """Width of the coloured bar in the first line of classes, px."""
    blue = (picture[..., 0].astype(int) - picture[..., 2]) > 60
    return int(blue[:14].any(axis=0).sum())


def test_a_video_is_labelled_frame_by_frame_and_the_labels_are_steady(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    video, rows, stats = tmp_path / "out.mp4", tmp_path / "rows.jsonl", tmp_path / "stats.json"
    options = ["--no-show", "--no-hud", "--fps", "10", "--output", video, "--json", rows, "--stats", stats]
    done = mien("webcam", pictures, "--model", model, *options)
    assert "20 frames on cpu" in done.stderr and "face" not in done.stderr
    found = rows_of(rows)
    assert [row["class"] for row in found[:SWITCH]] == ["bright"] * SWITCH and found[-1]["class"] == "dark"
    bright = [row["classes"]["bright"] for row in found]  # type: ignore[index]
    assert bright[:SWITCH] == pytest.approx([0.8] * SWITCH, abs=0.01)
    assert all(a > b for a, b in zip(bright[SWITCH - 1 :], bright[SWITCH:], strict=False)) and 0.2 < bright[-1] < 0.35
    assert all("faces" not in row for row in found)
    assert {"process", "draw", "write"} <= set(json.loads(stats.read_text())["stages"])
    film = cv2.VideoCapture(str(video))
    drawn = [film.read()[1] for _ in found]
    film.release()
    plate = max(text_size(line, 0.35)[0] for line in ("bright 80 %", "dark 20 %"))
    assert bars_of(drawn[0]) == pytest.approx(0.8 * plate, abs=5) and bars_of(drawn[SWITCH + 3]) < 0.7 * plate
    mien("webcam", pictures, "--model", model, "--no-show", "--smooth", "0", "--json", rows)
    assert rows_of(rows)[SWITCH]["classes"]["bright"] == pytest.approx(0.2, abs=0.01)  # type: ignore[index]


def test_each_face_is_labelled(model: Path, tmp_path: Path) -> None:
    rows, table = tmp_path / "rows.jsonl", tmp_path / "faces.csv"
    command = ["webcam", "demo", "--model", model, "--on", "faces", "--no-show", "--max-frames", 8]
    mien(*command, "--json", rows, "--csv", table)
    found = [face for row in rows_of(rows) for face in row["faces"]]  # type: ignore[attr-defined]
    assert found and all(sum(face["classes"].values()) == pytest.approx(1, abs=1e-4) for face in found)
    assert all(face["class"] == max(face["classes"], key=face["classes"].get) for face in found)
    with table.open() as file:
        lines = list(csv.DictReader(file))
    assert [line["class"] for line in lines] == [face["class"] for face in found]
    assert float(lines[0]["class_probability"]) == found[0]["classes"][found[0]["class"]]
    photo = find_photo()[0]
    (row,) = map(
        json.loads, mien("predict", photo, "--model", model, "--on", "faces", "--json", "-").stdout.split("\n")[:1]
    )
    assert row["faces"][0]["landmarks"] and set(row["faces"][0]["classes"]) == {"dark", "bright"}
    line = mien("predict", photo, "--model", model, "--on", "faces").stdout
    label, probability = row["faces"][0]["class"], row["faces"][0]["classes"][row["faces"][0]["class"]]
    assert line.endswith(f"male, {label} {100 * probability:.0f} %)\n")


def test_pictures_and_videos_are_classified_alike(model: Path, pictures: Path, tmp_path: Path) -> None:
    clip, drawn, rows = tmp_path / "clip.mp4", tmp_path / "drawn", tmp_path / "rows.jsonl"
    mien("webcam", pictures, "--model", model, "--no-show", "--no-labels", "--no-hud", "--output", clip)
    told = mien("predict", clip, pictures / "00.png", "--model", model).stdout.splitlines()
    assert told == [
        f"{clip}: 20 frames, bright in 50 %, dark in 50 %",
        f"{pictures / '00.png'}: bright 80 %, dark 20 %",
    ]
    mien("predict", clip, pictures / "19.png", "--model", model, "--draw", drawn, "--json", rows)
    assert [row["class"] for row in rows_of(rows)] == ["bright"] * SWITCH + ["dark"] * (SWITCH + 1)
    assert sorted(path.name for path in drawn.iterdir()) == ["19.png", "clip.mp4"]
    picture = cv2.imread(str(drawn / "19.png"))
    assert picture is not None and bars_of(picture) > 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["webcam", "x.mp4", "--blur"], "--blur is about faces; add --on faces"),
        (["webcam", "x.mp4", "--csv", "x.csv"], "--csv is about faces"),
        (["webcam", "x.mp4", "--max-faces", "2"], "the choice of faces is about faces"),
        (["predict", "x.png", "--save-crops", "x"], "--save-crops is about faces"),
        (["predict", "x.png", "--ray", "local"], "--ray is about faces"),
    ],
)
def test_what_concerns_faces_is_refused_for_frames(options: list[str], message: str, model: Path) -> None:
    assert message in " ".join(mien(*options, "--model", model, code=2).stderr.split())


def test_a_model_for_something_else_is_refused() -> None:
    detector = shipped_model("detector")
    twice = ["--model", detector, "--detector", detector]
    assert "is a detector, and so is the file of --detector" in mien("webcam", "demo", *twice, code=2).stderr
    assert "add --model CLASSIFIER.onnx" in mien("webcam", "demo", "--on", "faces", code=2).stderr
    wrong = ["--age-gender", detector]
    assert "expected an age and gender model, found a detector" in mien("webcam", "demo", *wrong, code=2).stderr


def test_only_a_classifier_labels_frames() -> None:
    options = PipelineOptions(classifier=shipped_model("detector"))
    with pytest.raises(ModelError, match="expected a classifier, found a detector"):
        options.load_frame_classifier(threads=1)


def test_probabilities_that_are_no_numbers_are_an_error() -> None:
    class Diverged:
        spec = SPEC

        def __call__(self, batch: Image) -> dict[str, np.ndarray]:
            return {"probabilities": np.full((len(batch), 2), np.nan)}

    with pytest.raises(ModelError, match="a classifier returned NaN or infinity"):
        class_probabilities(Diverged(), [np.zeros((8, 8, 3), np.uint8)])  # type: ignore[arg-type]
