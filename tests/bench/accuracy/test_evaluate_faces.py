from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mien.bench.accuracy.evaluate_faces import evaluate_detector, evaluate_landmarks, landmark_summary
from mien.bench.accuracy.face_alignment_peer import evaluate_face_alignment
from mien.bench.accuracy.metrics import outer_eye_distance
from mien.bench.data.face_boxes import held_out_pictures, read_faces
from mien.bench.data.landmark_labels import read_landmarks
from mien.bench.data.splits import held_out
from mien.bench.studies.readme_table import BEGIN, END, put_between
from mien.runtime.errors import InputError, ModelError
from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.values import FloatArray, Image
from mien.runtime.vision.geometry import box_from_bounds, landmark_bounds


class Oracle:
    """Knows the labels: its landmarks are those of the folder, in the order of the crops, moved by `shift` crops."""

    provider = "oracle"

    def __init__(self, folder: Path, *, shift: float = 0.0) -> None:
        self.spec = ModelSpec(Task.LANDMARKS, (64, 64), ("landmarks", "presence"), crop_scale=1.3)
        table = read_landmarks(folder)
        bounds = landmark_bounds(table.points)
        centre = (bounds[:, :2] + bounds[:, 2:]) / 2
        side = 1.3 * (bounds[:, 2:] - bounds[:, :2]).max(axis=1)
        xy = (table.points - centre[:, None]) / side[:, None, None] + 0.5 + shift
        self._rows = iter(np.concatenate([xy, np.zeros((len(table), 68, 1))], axis=2))

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        rows = np.stack([next(self._rows) for _ in batch])
        return {"landmarks": rows, "presence": np.ones(len(batch))}


def test_perfect_landmarks_have_no_error(landmark_folder: Path) -> None:
    summary = evaluate_landmarks(Oracle(landmark_folder), landmark_folder).summary
    assert summary["nme"] == 0.0 and summary["auc8"] == 100.0 and summary["fr8"] == 0.0
    assert summary["count"] == 24 and summary["unreadable"] == []


def test_a_known_shift_is_the_error_in_eye_distances(landmark_folder: Path) -> None:
    summary = evaluate_landmarks(Oracle(landmark_folder, shift=0.01), landmark_folder).summary
    points = read_landmarks(landmark_folder).points
    side = 1.3 * np.ptp(points, axis=1).max(axis=1)
    eyes = np.linalg.norm(points[:, 36] - points[:, 45], axis=1)
    assert summary["nme"] == pytest.approx(float((100 * 0.01 * np.sqrt(2) * side / eyes).mean()), abs=0.01)


def test_faces_that_were_not_found_are_failures(landmark_folder: Path) -> None:
    table = read_landmarks(landmark_folder)
    predicted = np.concatenate([table.points, table.depth[..., None]], axis=2)
    predicted[:6] = np.nan
    summary = landmark_summary(predicted, table)
    assert summary["nme"] == 0.0 and summary["fr8"] == 25.0 and summary["auc8"] == 75.0


def test_the_test_split_is_also_measured_on_its_own(landmark_folder: Path) -> None:
    table = read_landmarks(landmark_folder)
    predicted = np.concatenate([table.points, table.depth[..., None]], axis=2)
    tested = table.in_test_split()
    predicted[tested, :, 0] += 1.0
    summary = landmark_summary(predicted, table, held_out=True)
    eyes = np.linalg.norm(table.points[:, 36] - table.points[:, 45], axis=1)
    assert summary["test_split"]["count"] == tested.sum() and 0 < tested.sum() < len(table)
    assert summary["test_split"]["nme"] == pytest.approx(float((100 / eyes[tested]).mean()), abs=0.001)
    assert summary["nme"] == pytest.approx(float((100 / eyes[tested]).sum() / len(table)), abs=0.001)
    assert "test_split" not in landmark_summary(predicted, table)


def test_a_picture_that_cannot_be_read_is_left_out_and_told(landmark_folder: Path) -> None:
    (landmark_folder / "images" / "face_23.png").write_bytes(b"broken")
    summary = evaluate_landmarks(Oracle(landmark_folder), landmark_folder).summary
    assert summary["count"] == 23 and "face_23.png" in summary["unreadable"][0]


def test_a_model_for_another_task_is_refused(landmark_folder: Path) -> None:
    runner = Oracle(landmark_folder)
    runner.spec = ModelSpec(Task.DETECTOR, (64, 64), ("boxes", "scores"))
    with pytest.raises(ModelError, match="expected a landmark model, found a detector"):
        evaluate_landmarks(runner, landmark_folder)


def test_held_out_rows_are_the_same_in_every_task(landmark_folder: Path) -> None:
    table, faces = read_landmarks(landmark_folder), read_faces(landmark_folder)
    assert (held_out(table.subjects) == held_out_pictures(landmark_folder, faces)).all()


def test_detector_measures(landmark_folder: Path) -> None:
    boxes = iter(box_from_bounds(landmark_bounds(read_landmarks(landmark_folder).points)))

    class Half:
        """Finds every second face, and one box too many at a low score."""

        usual_score = 0.5
        calls = 0

        def __call__(self, image: Image) -> tuple[FloatArray, FloatArray]:
            self.calls += 1
            box = next(boxes)
            found = [box] if self.calls % 2 else []
            return np.array([*found, box + 500.0]), np.array([0.9, 0.1][-len(found) - 1 :])

        def close(self) -> None: ...

    summary = evaluate_detector(Half(), landmark_folder).summary
    assert summary["count"] == 24 and summary["recall"] == 50.0 and summary["precision"] == 100.0
    assert summary["ap50"] == pytest.approx(50.0)


def test_the_readme_table_replaces_only_what_is_between_the_marks() -> None:
    text = f"a\n{BEGIN}\nold\n{END}\nb"
    assert put_between(text, "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    with pytest.raises(ValueError):
        put_between("no marks", "new")


def test_face_alignment_is_measured_on_the_same_faces(landmark_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = read_landmarks(landmark_folder)

    class FaceAlignment:
        """Off by one pixel to the right, and blind to every other face."""

        def __init__(self, kind: object, **options: object) -> None:
            self.calls = 0

        def get_landmarks_from_image(self, rgb: object, detected_faces: list[FloatArray]) -> list[FloatArray] | None:
            points = table.points[self.calls]
            self.calls += 1
            (box,) = detected_faces
            assert box[0] == points[:, 0].min() and box[3] == points[:, 1].max()
            return [points + [1.0, 0.0]] if self.calls % 2 else None

    kinds = SimpleNamespace(TWO_D=1)
    monkeypatch.setitem(
        sys.modules, "face_alignment", SimpleNamespace(FaceAlignment=FaceAlignment, LandmarksType=kinds)
    )
    summary = evaluate_face_alignment(landmark_folder)
    eyes = outer_eye_distance(table.points[::2])
    assert summary["count"] == 24 and summary["nme"] == pytest.approx(float((100 / eyes).mean()), abs=1e-3)
    assert summary["fr8"] >= 50


def test_face_alignment_is_not_installed(landmark_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    with pytest.raises(InputError, match="pip install face-alignment"):
        evaluate_face_alignment(landmark_folder)
