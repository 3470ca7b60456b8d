"""`evaluate --detect`: a pipeline is measured on the labelled face, on every picture, or on the held-out ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.bench.accuracy.evaluate_attributes import evaluate_age_gender_pipeline
from mien.bench.accuracy.evaluate_faces import evaluate_pipeline
from mien.bench.accuracy.metrics import outer_eye_distance
from mien.bench.data.age_gender_labels import read_age_gender
from mien.bench.data.landmark_labels import read_landmarks
from mien.runtime.errors import InputError
from mien.runtime.values import Faces, Image
from mien.runtime.vision.geometry import box_from_bounds, landmark_bounds

BOXES = np.array([[0.0, 0, 20, 20], [10, 10, 60, 60], [0, 0, 30, 30]])
"""Of three faces in one picture; the second is the largest."""
MISSED = (0, 2)
"""Pictures whose labelled face the pipelines here do not find."""


def finding(faces_in: Callable[[int], Faces], files: Sequence[Path]) -> Callable[[Image], Faces]:
    """A pipeline that finds `faces_in(i)` in `files[i]`, and must be given these pictures in this order."""
    pictures = iter(enumerate(files))

    def pipeline(image: Image) -> Faces:
        i, file = next(pictures)
        assert (image == cv2.imread(str(file))).all()
        return faces_in(i)

    return pipeline


@pytest.mark.parametrize("held_out", [False, True])
def test_landmarks_are_those_of_the_labelled_face(landmark_folder: Path, held_out: bool) -> None:
    table = read_landmarks(landmark_folder)
    table = table.mask(table.held_out()) if held_out else table

    def faces_in(i: int) -> Faces:
        """The face, 1 px off, after another one; in the first picture neither, in the third only the other."""
        face = np.concatenate([table.points[i] + [1, 0], np.zeros((68, 1))], axis=1)
        landmarks = np.stack([face + [500, 0, 0], face])[: {0: 0, 2: 1}.get(i)]
        boxes = box_from_bounds(landmark_bounds(landmarks))
        return Faces.from_boxes(boxes, np.ones(len(boxes)), landmarks=landmarks)

    summary = evaluate_pipeline(finding(faces_in, table.files), landmark_folder, held_out=held_out).summary  # type: ignore[arg-type]
    missed = [i for i in MISSED if i < len(table)]
    error = 100 / outer_eye_distance(np.delete(table.points, missed, axis=0))
    assert (summary["count"], summary["not_detected"]) == (len(table), len(missed))
    assert summary["nme"] == pytest.approx(error.mean(), abs=1e-3)
    assert summary["fr8"] == pytest.approx(100 * len(missed) / len(table), abs=0.01)
    assert summary["auc8"] == pytest.approx(100 * (1 - error / 8).sum() / len(table), abs=0.01)


@pytest.mark.parametrize("held_out", [False, True])
def test_the_age_is_that_of_the_largest_face(age_gender_folder: Path, held_out: bool) -> None:
    table = read_age_gender(age_gender_folder)
    table = table.mask(table.held_out()) if held_out else table

    def faces_in(i: int) -> Faces:
        """Two years too old and certain, among others of another age; none in the first, unclear in the third."""
        age = np.array([1.0, np.nan if i in MISSED else table.age[i] + 2, 1.0])
        female = np.where([False, True, False], table.female[i], 1 - table.female[i])
        faces = Faces.from_boxes(BOXES, np.ones(3), age=age, female=female, age_std=np.array([1.0, 3.0, 1.0]))
        return faces if i else Faces.empty()

    pipeline = finding(faces_in, table.files)
    summary = evaluate_age_gender_pipeline(pipeline, age_gender_folder, held_out=held_out).summary  # type: ignore[arg-type]
    missed = [i for i in MISSED if i < len(table)]
    assert (summary["count"], summary["not_detected"]) == (len(table) - len(missed), len(missed))
    assert summary["mae_years"] == pytest.approx(2) and summary["cs5"] == summary["gender_accuracy"] == 100
    assert summary["within_std"] == 100


def test_a_pipeline_that_finds_no_face_at_all_is_an_error(landmark_folder: Path, age_gender_folder: Path) -> None:
    with pytest.raises(InputError, match=r"no labelled face of .* was detected"):
        evaluate_pipeline(lambda _: Faces.empty(), landmark_folder)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no face was found in any picture"):
        evaluate_age_gender_pipeline(lambda _: Faces.empty(), age_gender_folder)  # type: ignore[arg-type]
