"""Evaluations of held-out pictures measure these rows, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.bench.accuracy.accuracy import accuracy_of
from mien.bench.accuracy.evaluate_faces import evaluate_detector, evaluate_landmarks
from mien.bench.data.face_boxes import held_out_pictures, read_faces
from mien.bench.data.landmark_labels import read_landmarks
from mien.bench.timing.interleave import digest_of
from mien.runtime.faces.detector import OwnDetector
from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.values import Image
from mien.tests.conftest import write_csv


class Blind:
    """A model that puts all points at the corner, and detects nothing."""

    provider = "cpu"

    def __init__(self, task: Task) -> None:
        self.spec = ModelSpec(task, (32, 32), ())

    def __call__(self, batch: Image) -> dict[str, Any]:
        n = len(batch)
        return {"landmarks": np.zeros((n, 68, 3)), "boxes": np.empty((n, 0, 4)), "scores": np.empty((n, 0))}


@pytest.mark.parametrize("held_out", [False, True])
def test_faces(landmark_folder: Path, held_out: bool) -> None:
    table, runner = read_landmarks(landmark_folder), Blind(Task.LANDMARKS)
    held = table.mask(table.held_out()) if held_out else table
    found = evaluate_landmarks(runner, landmark_folder, held_out=held_out)  # type: ignore[arg-type]
    assert found.summary["count"] == len(held) and found.labels.files == held.files
    assert 0 < table.held_out().sum() < len(table)
    accuracy = accuracy_of(runner, landmark_folder, held_out=held_out)  # type: ignore[arg-type]
    assert (accuracy.count, accuracy.data_digest) == (len(held), digest_of([held.points]))


@pytest.mark.parametrize("held_out", [False, True])
def test_boxed_pictures(landmark_folder: Path, held_out: bool) -> None:
    names = sorted(path.name for path in (landmark_folder / "images").iterdir())
    rows: list[list[object]] = [[name, 9, 9, 40 + i, 40] for i, name in enumerate(names)]
    write_csv(landmark_folder / "boxes.csv", ["file", "x", "y", "w", "h"], rows)
    table, runner = read_faces(landmark_folder), Blind(Task.DETECTOR)
    keep = held_out_pictures(landmark_folder, table)
    held = table.mask(keep) if held_out else table
    found = evaluate_detector(OwnDetector(runner), landmark_folder, held_out=held_out)  # type: ignore[arg-type]
    assert found.summary["count"] == len(held) and found.labels.files == held.files and 0 < keep.sum() < len(table)
    accuracy = accuracy_of(runner, landmark_folder, held_out=held_out)  # type: ignore[arg-type]
    assert (accuracy.count, accuracy.data_digest) == (len(held), digest_of(list(held.boxes)))
