"""Evaluation of age, gender and classification models on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.errors import InputError
from ...runtime.faces.classifier import class_probabilities
from ...runtime.models.runner import Runner, check_task
from ...runtime.models.spec import Task
from ...runtime.pipeline.pipeline import Pipeline
from ...runtime.values import FloatArray, Progress
from ...runtime.vision.geometry import longer_side
from ..data.age_gender_labels import AgeGenderTable, join_copies, read_age_gender
from ..data.aligned_crops import aligned_input
from ..data.class_folders import ClassTable, read_classes
from .evaluation import Evaluation, PictureReader, in_batches, of_test_split
from .metrics import age_gender_measures


def evaluate_age_gender(
    runner: Runner, data: Path, *, held_out: bool = False, progress: Progress | None = None
) -> Evaluation[FloatArray, AgeGenderTable]:
    """Compute MAE, CS@5 and gender accuracy of a model on aligned face crops.

    Args:
        runner: The age and gender model.
        data: Folder with labelled aligned crops.
        held_out: Evaluate only on the groups that `mien train` holds out.
        progress: Called after each picture.

    Returns:
        Predictions (n, 3): age in years, probability of female, and standard deviation of the age; their labels; and
        metrics over all crops, ``by_decade`` of age and, of held-out groups, over the ``test_split``.

    Raises:
        InputError: The model is for another task, labels are malformed, or there is no crop to evaluate on.
    """
    check_task(runner.spec, Task.AGE_GENDER)
    table = read_labelled_ages(data, held_out)
    size = runner.spec.input_size[0]
    predicted = np.full((len(table), 3), np.nan)
    pictures = PictureReader(table.files, progress)
    for batch in in_batches((i, aligned_input(image, size)) for i, image in pictures):
        outputs = runner(np.stack(list(batch.values())))
        unknown = np.full(len(batch), np.nan)
        columns = [outputs["age"], outputs["female"], outputs.get("age_std", unknown)]
        predicted[list(batch)] = np.stack(columns, axis=1)
    keep = pictures.readable()
    predicted, table = predicted[keep], table.mask(keep)
    summary = age_gender_summary(predicted, table, held_out=held_out)
    return Evaluation(predicted, table, summary | {"unreadable": pictures.messages})


def evaluate_age_gender_pipeline(
    pipeline: Pipeline, data: Path, *, held_out: bool = False, progress: Progress | None = None
) -> Evaluation[FloatArray, AgeGenderTable]:
    """Compute the metrics of `evaluate_age_gender` for the whole pipeline, on the largest face of each picture.

    Pictures without a face, or without one clear enough to estimate an age, are only counted under ``not_detected``.
    Arguments and errors are those of `evaluate_age_gender`.
    """
    table = read_labelled_ages(data, held_out)
    predicted = np.full((len(table), 3), np.nan)
    pictures = PictureReader(table.files, progress)
    for i, image in pictures:
        faces = pipeline(image)
        if len(faces):
            largest = int(longer_side(faces.boxes).argmax())
            predicted[i] = faces.age[largest], faces.female[largest], faces.age_std[largest]
    keep: npt.NDArray[np.bool_] = np.isfinite(predicted[:, 0])
    if not keep.any():
        raise InputError(f"no face was found in any picture of {data}")
    missed = int((~keep & pictures.readable()).sum())
    predicted, table = predicted[keep], table.mask(keep)
    summary = age_gender_summary(predicted, table, held_out=held_out)
    return Evaluation(predicted, table, summary | {"not_detected": missed, "unreadable": pictures.messages})


def age_gender_summary(predicted: FloatArray, table: AgeGenderTable, *, held_out: bool = False) -> dict[str, Any]:
    """Compare predictions (n, 3) of age in years, probability of female and deviation of the age with their labels.

    Args:
        predicted: Predictions.
        table: Their labels.
        held_out: Whether these are the held-out groups, so that the test split is also measured on its own.
    """

    def measures(rows: Any) -> dict[str, float]:
        age, female, std = predicted[rows].T
        values = age_gender_measures(age, female, table.age[rows], table.female[rows])
        if np.isfinite(std).all():
            values["within_std"] = float(100 * (np.abs(age - table.age[rows]) <= std).mean())
        return {"count": int(np.sum(rows)), **{name: round(value, 3) for name, value in values.items()}}

    decades = (table.age // 10 * 10).astype(int)
    return {
        "task": Task.AGE_GENDER.value,
        **measures(np.ones(len(table), dtype=bool)),
        **(of_test_split(measures, table.in_test_split()) if held_out else {}),
        "by_decade": {f"{d}-{d + 9}": measures(decades == d) for d in np.unique(decades)},
    }


def read_labelled_ages(data: Path, held_out: bool) -> AgeGenderTable:
    """Read the labelled crops of a folder, or only the held-out ones.

    Raises:
        InputError: Labels are malformed, or nothing is held out.
    """
    table = read_age_gender(data)
    if held_out:
        table = join_copies(table)
        table = table.mask(table.held_out())
    if not len(table):
        raise InputError(f"{data}: nothing to evaluate; no group is held out")
    return table


def evaluate_classes(
    runner: Runner, data: Path, *, held_out: bool = False, progress: Progress | None = None
) -> Evaluation[FloatArray, ClassTable]:
    """Compute the accuracy of a classifier on whole pictures.

    Args:
        runner: The classifier.
        data: Folder with one subfolder per class.
        held_out: Evaluate only on the pictures that `mien train` holds out.
        progress: Called after each picture.

    Returns:
        The probability of each class (n, classes), the labels, and the accuracy in percent over all pictures and
        ``by_class``.

    Raises:
        InputError: The model is for another task, or the folder's classes differ from the model's.
    """
    check_task(runner.spec, Task.CLASSIFY)
    table = read_classes(data)
    if table.classes != runner.spec.classes:
        raise InputError(
            f"expected the model's classes as subfolders of {data}, {', '.join(runner.spec.classes)}, found "
            f"{', '.join(table.classes)}; rename the folders, or pass the model that was trained on them"
        )
    if held_out:
        table = table.mask(table.held_out())
    probabilities = np.full((len(table), len(table.classes)), np.nan)
    pictures = PictureReader(table.files, progress)
    for i, image in pictures:
        probabilities[i] = class_probabilities(runner, [image])[0]
    keep = pictures.readable()
    probabilities, table = probabilities[keep], table.mask(keep)
    correct = probabilities.argmax(axis=1) == table.labels

    def measures(rows: npt.NDArray[np.bool_]) -> dict[str, float]:
        return {"count": int(rows.sum()), "accuracy": round(float(100 * correct[rows].mean()), 2)}

    of_class = {name: table.labels == label for label, name in enumerate(table.classes)}
    summary = {
        "task": Task.CLASSIFY.value,
        **measures(np.ones(len(table), dtype=bool)),
        "by_class": {name: measures(rows) for name, rows in of_class.items() if rows.any()},
        "unreadable": pictures.messages,
    }
    return Evaluation(probabilities, table, summary)
