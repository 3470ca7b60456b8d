"""`mien evaluate age-gender` and `classify`: accuracy of any `Runner` on labelled folders. No torch is needed here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.bench.accuracy.evaluate_faces import Progress, in_batches, quiet, readable_pictures, readable_rows
from mien.bench.accuracy.metrics import age_gender_measures
from mien.bench.data.age_gender_labels import AgeGenderTable, join_copies, read_age_gender
from mien.bench.data.class_folders import ClassTable, read_classes
from mien.runtime.errors import InputError
from mien.runtime.faces.classifier import class_probabilities
from mien.runtime.faces.pipeline import Pipeline
from mien.runtime.models.runner import Runner
from mien.runtime.models.spec import Task
from mien.runtime.values import FloatArray
from mien.runtime.vision.crop import resized
from mien.runtime.vision.geometry import longer_side


def evaluate_age_gender(
    runner: Runner, data: Path, *, validation_only: bool = False, progress: Progress = quiet
) -> dict[str, Any]:
    """MAE, CS@5 and gender accuracy over aligned crops as they are, in all and by decade.

    Raises:
        InputError: not an age and gender model, malformed labels, or nothing left to measure.
    """
    if runner.spec.task is not Task.AGE_GENDER:
        raise InputError(f"wanted an age and gender model, found a model for {runner.spec.task.value}")
    table = attribute_rows(data, validation_only)
    unreadable: dict[int, str] = {}
    found = look_at_labelled(runner, table, unreadable, progress)
    keep = readable_rows(len(table), unreadable)
    return age_gender_summary(found[keep], table.mask(keep)) | {"unreadable": list(unreadable.values())}


def look_at_labelled(
    runner: Runner, table: AgeGenderTable, unreadable: dict[int, str], progress: Progress = quiet
) -> FloatArray:
    """Ages and probabilities of female (n, 2) of aligned crops as they are; NaN for those that cannot be read."""
    size = runner.spec.input_size[0]
    found = np.full((len(table), 2), np.nan)
    crops = ((i, resized(image, size)) for i, image in readable_pictures(table.files, unreadable, progress))
    for batch in in_batches(crops):
        outputs = runner(np.stack(list(batch.values())))
        found[list(batch)] = np.stack([outputs["age"], outputs["female"]], axis=1)
    return found


def evaluate_age_gender_pipeline(
    pipeline: Pipeline, data: Path, *, validation_only: bool = False, progress: Progress = quiet
) -> dict[str, Any]:
    """The same measures over the whole path: detected, aligned by its landmarks; the largest face of each picture.

    Pictures in which no face is found are counted under ``not_detected`` and nowhere else.
    """
    table = attribute_rows(data, validation_only)
    found = np.full((len(table), 2), np.nan)
    unreadable: dict[int, str] = {}
    for i, image in readable_pictures(table.files, unreadable, progress):
        faces = pipeline(image)
        if len(faces):
            largest = int(longer_side(faces.boxes).argmax())
            found[i] = faces.age[largest], faces.female[largest]
    keep: npt.NDArray[np.bool_] = np.isfinite(found[:, 0])
    if not keep.any():
        raise InputError(f"no face was found in any picture of {data}")
    missed = int((~keep & readable_rows(len(table), unreadable)).sum())
    summary = age_gender_summary(found[keep], table.mask(keep))
    return summary | {"not_detected": missed, "unreadable": list(unreadable.values())}


def age_gender_summary(found: FloatArray, table: AgeGenderTable) -> dict[str, Any]:
    """Summarise ages and probabilities of female (n, 2) against their table."""

    def measures(rows: Any) -> dict[str, float]:
        values = age_gender_measures(found[rows, 0], found[rows, 1], table.age[rows], table.female[rows])
        return {"count": int(np.sum(rows)), **{name: round(value, 3) for name, value in values.items()}}

    decades = (table.age // 10 * 10).astype(int)
    return {
        "task": Task.AGE_GENDER.value,
        **measures(np.ones(len(table), dtype=bool)),
        "by_decade": {f"{d}-{d + 9}": measures(decades == d) for d in np.unique(decades)},
    }


def attribute_rows(data: Path, validation_only: bool) -> AgeGenderTable:
    """Read the labelled crops of a folder, or those that training never sees.

    Raises:
        InputError: malformed labels, or nothing left to measure.
    """
    table = read_age_gender(data)
    if validation_only:
        table = join_copies(table)
        table = table.mask(table.validation())
    if not len(table):
        raise InputError(f"{data}: nothing to evaluate; no group falls into the validation split")
    return table


def evaluate_classes(
    runner: Runner, data: Path, *, validation_only: bool = False, progress: Progress = quiet
) -> dict[str, Any]:
    """Accuracy in percent over whole pictures, in all and by class.

    Raises:
        InputError: not a classifier, or a folder of other classes than its own.
    """
    if runner.spec.task is not Task.CLASSIFY:
        raise InputError(f"wanted a classifier, found a model for {runner.spec.task.value}")
    table = class_rows(runner, data, validation_only)
    unreadable: dict[int, str] = {}
    right = classify_labelled(runner, table, unreadable, progress)
    keep = readable_rows(len(table), unreadable)
    by_class = {
        name: {
            "count": int((keep & (table.labels == label)).sum()),
            "accuracy": round(float(100 * right[keep & (table.labels == label)].mean()), 2),
        }
        for label, name in enumerate(table.classes)
        if (keep & (table.labels == label)).any()
    }
    return {
        "task": Task.CLASSIFY.value,
        "count": int(keep.sum()),
        "accuracy": round(float(100 * right[keep].mean()), 2),
        "by_class": by_class,
        "unreadable": list(unreadable.values()),
    }


def class_rows(runner: Runner, data: Path, validation_only: bool) -> ClassTable:
    """Read a classifier's folder, or what training never sees of it.

    Raises:
        InputError: a folder of other classes than the model's.
    """
    table = read_classes(data)
    if table.classes != runner.spec.classes:
        raise InputError(
            f"the model tells {', '.join(runner.spec.classes)} apart, {data} has {', '.join(table.classes)}"
        )
    return table.mask(table.validation()) if validation_only else table


def classify_labelled(
    runner: Runner, table: ClassTable, unreadable: dict[int, str], progress: Progress = quiet
) -> FloatArray:
    """1 where the most probable class is the right one (n,), else 0; NaN for pictures that cannot be read."""
    right = np.full(len(table), np.nan)
    for i, image in readable_pictures(table.files, unreadable, progress):
        right[i] = class_probabilities(runner, image).argmax() == table.labels[i]
    return right
