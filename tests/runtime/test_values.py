from __future__ import annotations

import json

import numpy as np
import pytest

from mien.runtime.errors import ModelError
from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.output.rows import face_rows
from mien.runtime.values import Faces
from mien.runtime.vision.boxes import select_boxes
from mien.runtime.vision.resize import pad_to_multiple, reduced


def two_faces() -> Faces:
    return Faces.from_boxes(np.array([[0.0, 0, 10, 10], [20, 20, 40, 50]]), np.array([0.9, 0.8]))


def test_faces_select_and_stack() -> None:
    faces = two_faces()
    assert len(Faces.empty()) == 0
    assert len(faces.mask(faces.scores > 0.85)) == 1
    assert faces.mask(np.array([1, 0])).scores.tolist() == [0.8, 0.9]
    assert len(Faces.concat([faces, Faces.empty(), faces])) == 4
    assert len(Faces.concat([])) == 0


def test_each_face_has_its_values() -> None:
    faces = two_faces().with_fields(age=np.array([30.0, np.nan]), track_id=np.array([4, -1]))
    first, second = faces
    assert first.box.tolist() == [0, 0, 10, 10] and (first.score, first.age, first.track_id) == (0.9, 30, 4)
    assert second.landmarks.shape == (68, 3) and np.isnan(second.age) and second.classes is None
    assert faces[-1].score == second.score == 0.8 and type(first.age) is float and type(first.track_id) is int
    assert list(Faces.empty()) == []
    for mistake in (faces.scores > 0.85, slice(2)):
        with pytest.raises(TypeError):
            faces[mistake]
    with pytest.raises(IndexError):
        faces[2]


def test_faces_refuse_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"Faces\.scores: expected shape \(2,\), found \(1,\)"):
        two_faces().with_fields(scores=np.array([1.0]))


def test_rows_have_null_for_what_is_unknown() -> None:
    row = face_rows(two_faces(), (64, 48))[0]
    assert row["landmarks"] is None and row["pose"] is None and row["age"] is None and "track_id" not in row
    assert row["box"] == [0.0, 0.0, 10.0, 10.0]


def test_spec_round_trip() -> None:
    spec = ModelSpec(
        task=Task.LANDMARKS,
        input_size=(112, 112),
        outputs=("landmarks", "presence"),
        crop_scale=1.3,
        points="ibug68",
        dims=3,
        provenance={"backbone": "x"},
    )
    assert ModelSpec.from_json(spec.to_json(), origin="here") == spec


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version": 1, "task": "juggling", "input_size": [1, 2]}'])
def test_spec_refuses_what_it_cannot_read(text: str) -> None:
    with pytest.raises(ModelError, match=r"model\.onnx: its model spec cannot be read"):
        ModelSpec.from_json(text, origin="model.onnx")


@pytest.mark.parametrize(
    "change",
    [
        {"crop_scale": None},
        {"crop_scale": "wide"},
        {"crop_scale": 0},
        {"crop_scale": float("nan")},
        {"input_size": [0, 112]},
        {"input_size": [112, -1]},
        {"input_size": 112},
        {"provenance": None},
        {"classes": 3},
    ],
)
def test_spec_refuses_values_that_no_model_has(change: dict[str, object]) -> None:
    good = {"version": 1, "task": "landmarks", "input_size": [112, 112], "outputs": ["landmarks"]}
    assert ModelSpec.from_json(json.dumps(good), origin="x").crop_scale == 1
    with pytest.raises(ModelError, match=r"model\.onnx: its model spec cannot be read"):
        ModelSpec.from_json(json.dumps(good | change), origin="model.onnx")


def test_spec_of_the_future() -> None:
    with pytest.raises(ModelError, match="version 99"):
        ModelSpec.from_json('{"version": 99}', origin="model.onnx")


def test_nms_keeps_the_best_of_a_heap() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [1, 1, 11, 11], [50, 50, 60, 60], [0, 0, 10, 10]])
    kept, scores = select_boxes(boxes, np.array([0.7, 0.9, 0.6, 0.1]), threshold=0.3)
    assert scores.tolist() == [0.9, 0.6]
    assert kept.tolist() == [[1, 1, 11, 11], [50, 50, 60, 60]]
    assert select_boxes(boxes, np.zeros(4), threshold=0.3)[0].shape == (0, 4)


@pytest.mark.parametrize("score", [0.3, 0.5, 0.7, 1.0])
def test_a_score_equal_to_the_threshold_is_kept(score: float) -> None:
    for scores in (np.array([score]), np.array([score], np.float32)):
        assert len(select_boxes(np.array([[0.0, 0, 10, 10]]), scores, threshold=score)[0]) == 1


def test_a_part_of_a_better_face_is_no_face() -> None:
    boxes = np.array([[0.0, 0, 100, 100], [20, 20, 50, 50], [90, 90, 120, 120]])
    kept, _ = select_boxes(boxes, np.array([0.9, 0.8, 0.7]), threshold=0.3)
    assert kept.tolist() == [[0, 0, 100, 100], [90, 90, 120, 120]]
    # A worse large box does not swallow a better small one.
    assert len(select_boxes(boxes, np.array([0.5, 0.8, 0.7]), threshold=0.3)[0]) == 3


def test_padding_and_reduction() -> None:
    assert pad_to_multiple(np.ones((180, 320, 3), np.uint8), 32).shape == (192, 320, 3)
    small, factor = reduced(np.zeros((720, 1280, 3), np.uint8), 320)
    assert (small.shape, factor) == ((180, 320, 3), 0.25)
    assert reduced(small, 320) == (small, 1.0)
