"""Accuracy of a model on labelled data, with bootstrap replicates for intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.errors import InputError
from ...runtime.faces.detector import OwnDetector
from ...runtime.models.runner import Runner
from ...runtime.models.spec import Task
from ...runtime.values import FloatArray
from ..data.age_gender_rows import has_ages
from ..data.class_layout import has_classes
from ..data.face_boxes import has_boxes
from ..data.landmark_labels import has_landmarks
from ..timing.interleave import digest_of
from .evaluate_attributes import evaluate_age_gender, evaluate_classes
from .evaluate_faces import LOWEST_SCORE, detect_faces, evaluate_landmarks
from .metrics import curve_of, match_picture, normalized_mean_error

REPLICATES = 400
HAS_LABELS = {Task.LANDMARKS: has_landmarks, Task.AGE_GENDER: has_ages, Task.DETECTOR: has_boxes}


class Metric(str, Enum):
    """Metric of a task's accuracy."""

    NME = "nme"
    """Normalized mean error: percent of the outer eye distance, mean over faces."""
    MAE = "mae"
    """Mean absolute error of the age, years."""
    AP50 = "ap50"
    """Average precision at an IoU of 0.5, percent."""
    ACCURACY = "accuracy"
    """Percent of pictures classified correctly."""

    @property
    def higher_is_better(self) -> bool:
        """True for AP50 and accuracy, False for errors."""
        return self in (Metric.AP50, Metric.ACCURACY)

    @property
    def unit(self) -> str:
        """Unit to append to a value."""
        return " years" if self is Metric.MAE else " %"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A metric measured over labelled samples.

    Attributes:
        metric: The metric.
        value: Its value, in the metric's unit.
        count: Number of samples.
        replicates: The metric over samples drawn with replacement (bootstrap; Efron, Annals of Statistics 1979). The
            draws depend only on `count`, so two models measured on the same data are compared draw by draw.
        data_digest: Digest of the labels; equal digests mean the same data.
    """

    metric: Metric
    value: float
    count: int
    replicates: tuple[float, ...]
    data_digest: str

    def __str__(self) -> str:
        return f"{self.value:.2f}{self.metric.unit}"


def accuracy_of(runner: Runner, data: Path, *, held_out: bool = False) -> Accuracy:
    """Measure the accuracy of a model: NME, MAE, AP50 or classification accuracy, by its task.

    Args:
        runner: The model.
        data: Folder with labels for the model's task.
        held_out: Measure only on what `mien train` holds out.

    Raises:
        InputError: Labels are malformed or for another task, or there is no sample to measure on.
    """
    task = runner.spec.task
    if task is Task.DETECTOR:
        detections, _, _ = detect_faces(OwnDetector(runner, min_score=LOWEST_SCORE), data, held_out=held_out)
        matches = [match_picture(detection) for detection in detections]
        return resampled(
            lambda rows: curve_of([matches[i] for i in rows]).average_precision(),
            len(matches),
            Metric.AP50,
            data_digest=digest_of([detection.labelled for detection in detections]),
        )
    if task is Task.LANDMARKS:
        landmarks = evaluate_landmarks(runner, data, held_out=held_out)
        points = landmarks.labels.points
        errors = normalized_mean_error(landmarks.predicted, points)
        return mean_accuracy(errors, Metric.NME, data_digest=digest_of([points]))
    if task is Task.AGE_GENDER:
        attributes = evaluate_age_gender(runner, data, held_out=held_out)
        age = attributes.labels.age
        return mean_accuracy(np.abs(attributes.predicted[:, 0] - age), Metric.MAE, data_digest=digest_of([age]))
    classes = evaluate_classes(runner, data, held_out=held_out)
    labels = classes.labels.labels
    correct = classes.predicted.argmax(axis=1) == labels
    return mean_accuracy(100.0 * correct, Metric.ACCURACY, data_digest=digest_of([labels]))


def folder_for(task: Task, folders: Sequence[Path], classes: Sequence[str] = ()) -> Path | None:
    """Return the first folder with labels for a task, or None.

    For a classifier, return the first folder with its classes, or else the first without the labels of another task.
    """
    if task is not Task.CLASSIFY:
        return next((folder for folder in folders if HAS_LABELS[task](folder)), None)
    with_classes = (folder for folder in folders if classes and has_classes(folder, classes))
    unlabelled = (folder for folder in folders if not any(has_labels(folder) for has_labels in HAS_LABELS.values()))
    return next(chain(with_classes, unlabelled), None)


def mean_accuracy(values: FloatArray, metric: Metric, *, data_digest: str) -> Accuracy:
    """Average values (n,), one per sample.

    Raises:
        InputError: There are no samples, or a value is not finite.
    """
    return resampled(lambda rows: float(values[rows].mean()), len(values), metric, data_digest=data_digest)


def resampled(
    statistic: Callable[[npt.NDArray[Any]], float], count: int, metric: Metric, *, data_digest: str
) -> Accuracy:
    """Compute a statistic over all samples and over bootstrap draws.

    Args:
        statistic: Function of the indices (k,) of the samples to use.
        count: Number of samples.
        metric: The metric that the statistic computes.
        data_digest: See `Accuracy`.

    Raises:
        InputError: There are no samples, or a result is not finite.
    """
    if not count:
        raise InputError(f"no labelled samples to compute the {metric.value} of")
    value = statistic(np.arange(count))
    draws = np.random.default_rng(0).integers(0, count, (REPLICATES, count))
    replicates = tuple(round(statistic(rows), 6) for rows in draws)
    if not np.isfinite([value, *replicates]).all():
        raise InputError(f"the {metric.value} is not a finite number")
    return Accuracy(metric, round(value, 6), count, replicates, data_digest)
