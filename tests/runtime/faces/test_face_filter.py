"""Which faces are reported: by score, number, size and place, in pictures and in video."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mien import Faces, Frame, Pipeline
from mien.cli import app
from mien.runtime.batch.packed_pipeline import open_packed_pipeline, pack_pipeline
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.errors import InputError
from mien.runtime.faces.face_filter import FaceFilter
from mien.runtime.pictures.images import read_image
from mien.runtime.pipeline.pipeline_options import PipelineOptions
from mien.runtime.values import Image

BOXES = np.array([[0.0, 0, 40, 50], [100, 0, 130, 20], [60, 60, 160, 160], [170, 80, 190, 100]])
FACES = Faces.from_boxes(BOXES, np.array([0.9, 0.8, 0.6, 0.5]))


def kept(**conditions: object) -> list[int]:
    faces = FaceFilter(**conditions)(FACES, (200, 160))
    return [BOXES.tolist().index(box) for box in faces.boxes.tolist()]


def test_each_condition_keeps_the_order() -> None:
    assert kept() == [0, 1, 2, 3]
    assert kept(min_score=0.6) == [0, 1, 2] and kept(min_score=0.61) == [0, 1]
    assert kept(min_face_px=30) == [0, 1, 2] and kept(min_face_px=50.5) == [2]  # the longer side counts
    assert kept(max_faces=1) == [2] and kept(max_faces=2) == [0, 2] and kept(max_faces=9) == [0, 1, 2, 3]
    assert kept(region=(0.5, 0, 1, 1)) == [1, 2, 3] and kept(region=(0, 0, 0.5, 1)) == [0]
    assert kept(region=(0, 0, 1, 0.1)) == [1]


def test_conditions_hold_together() -> None:
    assert kept(max_faces=2, min_score=0.7) == [0, 1]  # the largest of those that are left
    assert kept(max_faces=1, region=(0.5, 0, 1, 0.5), min_face_px=25) == [1]
    assert kept(min_face_px=101) == [] and len(FaceFilter(max_faces=1)(Faces.empty(), (10, 10))) == 0


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ({"min_score": 0}, "expected a minimum score above 0"),
        ({"min_score": float("nan")}, "minimum score"),
        ({"min_score": 40}, "found 40"),
        ({"max_faces": 0}, "at least 1 face, found 0"),
        ({"min_face_px": -3}, "minimum face size above 0 px, found -3"),
        ({"region": (0.5, 0, 0.5, 1)}, "fractions of the picture, such as 0.5,0,1,1"),
        ({"region": (0, 0, 640, 480)}, "found 0,0,640,480"),
        ({"region": (0, 0, 1)}, "found 0,0,1"),
        ({"region": (0, float("nan"), 1, 1)}, "found 0,nan,1,1"),
    ],
)
def test_impossible_conditions_are_refused(conditions: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Pipeline.load(**conditions)


@pytest.fixture(scope="module")
def three() -> Image:
    """Three faces side by side: large, small, large."""
    photo = read_image(find_photo()[0])
    large, small = (cv2.resize(photo, size, interpolation=cv2.INTER_AREA) for size in ((256, 300), (128, 150)))
    middle = np.full((300, 128, 3), 90, np.uint8)
    middle[75:225] = small
    return np.concatenate([large, middle, large[:, ::-1]], axis=1)


def test_pictures_and_video_and_packed_pipelines_agree(three: Image) -> None:
    def centres(faces: Faces) -> list[int]:
        return sorted(faces.boxes[:, ::2].mean(axis=1).round(-2).astype(int).tolist())

    with Pipeline.load(attributes=False) as every, Pipeline.load(attributes=False, min_face_px=75) as large:
        assert centres(every(three)) == [100, 300, 500] and centres(large(three)) == [100, 500]
        frames = [Frame(three, timestamp_ns=n * 33_000_000, index=n) for n in range(3)]
        assert [centres(faces) for _, faces in large.track(frames)] == [[100, 500]] * 3
    options = PipelineOptions(attributes=False, reported=FaceFilter(max_faces=2, region=(0.3, 0, 1, 1)))
    with open_packed_pipeline(pack_pipeline(options, max_side=640)) as packed:
        assert centres(packed(three)) == [300, 500]


def test_the_score_goes_to_the_detector_too(three: Image) -> None:
    with Pipeline.load(attributes=False, min_score=0.05) as low, Pipeline.load(attributes=False) as usual:
        assert low.detector.min_score == 0.05 and len(low(three)) > len(usual(three)) == 3
        best = float(usual(three).scores.max())
    with Pipeline.load(attributes=False, min_score=best - 1e-6) as high:
        assert high(three).scores.tolist() == pytest.approx([best])


def test_commands_take_the_conditions(three: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("three.png", three)

    def count(*options: str) -> int:
        predicted = CliRunner().invoke(app, ["predict", "three.png", "--json", "rows.jsonl", *options])
        filmed = CliRunner().invoke(app, ["webcam", "three.png", "--no-show", "--json", "film.jsonl", *options])
        assert predicted.exit_code == filmed.exit_code == 0, predicted.output + filmed.output
        counts = {len(json.loads(Path(name).read_text())["faces"]) for name in ("rows.jsonl", "film.jsonl")}
        assert len(counts) == 1
        return counts.pop()

    assert count() == 3 and count("--max-faces", "1") == 1 and count("--min-face", "75") == 2
    assert count("--region", "0,0,0.3,1") == 1 and count("--min-score", "0.99") == 0
    for option, value, told in (
        ("--region", "0,0,1", "--region expects LEFT,TOP,RIGHT,BOTTOM"),
        ("--region", "0,0,640,480", "fractions of the picture"),
        ("--min-score", "0", "above 0"),
        ("--min-face", "0", "above 0 px"),
    ):
        result = CliRunner().invoke(app, ["predict", "three.png", option, value])
        assert result.exit_code == 2 and told in result.stderr and result.stderr.count("\n") == 1
