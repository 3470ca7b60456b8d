"""Accuracy of an artifact on labelled data, for a benchmark: the sample-wise side of `mien evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.bench.accuracy.accuracy import Accuracy, Metric, mean_accuracy, resampled
from mien.bench.accuracy.evaluate_attributes import (
    attribute_rows,
    class_rows,
    classify_labelled,
    look_at_labelled,
)
from mien.bench.accuracy.evaluate_faces import (
    Progress,
    detect_labelled,
    landmark_rows,
    locate_labelled,
    picture_rows,
    quiet,
    readable_rows,
)
from mien.bench.accuracy.metrics import curve_of, match_picture, normalized_mean_error
from mien.bench.data.age_gender_labels import LABELS as AGES
from mien.bench.data.face_boxes import BOXES
from mien.bench.data.landmark_labels import LABELS, SEED_LABELS
from mien.bench.timing.interleave import digest_of
from mien.runtime.errors import InputError
from mien.runtime.faces.detector import OwnDetector
from mien.runtime.models.runner import Runner
from mien.runtime.models.spec import Task
from mien.runtime.values import FloatArray

LOWEST_SCORE = 0.02
"""From which a detector's boxes are looked at, so that the whole curve is seen."""


def folder_for(task: Task, folders: Sequence[Path]) -> Path | None:
    """The first of some folders that has labels for a task; None when none has."""
    labels = {Task.LANDMARKS: (LABELS, SEED_LABELS), Task.AGE_GENDER: (AGES,), Task.DETECTOR: (BOXES,)}
    for folder in folders:
        if task is Task.CLASSIFY:
            known = {name for names in labels.values() for name in names}
            if not any((folder / name).is_file() for name in known):
                return folder
        elif any((folder / name).is_file() for name in labels[task]):
            return folder
    return None


def accuracy_of(runner: Runner, data: Path, *, held_out: bool = False, progress: Progress = quiet) -> Accuracy:
    """NME, MAE, AP50 or accuracy of a model on a folder; held_out: only what training keeps out of it.

    Raises:
        InputError: labels that are not this task's, malformed ones, or nothing to measure on.
    """
    unreadable: dict[int, str] = {}
    task = runner.spec.task
    if task is Task.DETECTOR:
        return _detector_accuracy(runner, data, held_out, progress)
    values: FloatArray
    labels: npt.NDArray[Any]
    if task is Task.LANDMARKS:
        faces = landmark_rows(data, held_out)
        values = normalized_mean_error(locate_labelled(runner, faces, unreadable, progress), faces.points)
        labels, metric = faces.points, Metric.NME
    elif task is Task.AGE_GENDER:
        people = attribute_rows(data, held_out)
        values = np.abs(look_at_labelled(runner, people, unreadable, progress)[:, 0] - people.age)
        labels, metric = people.age, Metric.MAE
    else:
        pictures = class_rows(runner, data, held_out)
        values = 100 * classify_labelled(runner, pictures, unreadable, progress)
        labels, metric = pictures.labels, Metric.ACCURACY
    keep = readable_rows(len(values), unreadable)
    return mean_accuracy(values[keep], metric, data_digest=digest_of([labels[keep]]))


def _detector_accuracy(runner: Runner, data: Path, held_out: bool, progress: Progress) -> Accuracy:
    table = picture_rows(data, held_out)
    unreadable: dict[int, str] = {}
    pictures = detect_labelled(OwnDetector(runner, min_score=LOWEST_SCORE), table, unreadable, progress)
    matches = [match_picture(picture) for picture in pictures]
    if not matches:
        raise InputError(f"none of the pictures of {data} can be read")
    return resampled(
        lambda rows: curve_of([matches[i] for i in rows]).average_precision(),
        len(matches),
        Metric.AP50,
        data_digest=digest_of([picture.labelled for picture in pictures]),
    )
