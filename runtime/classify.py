"""Classifiers of whole pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import InputError, ModelError
from .images import expand, read_image
from .preprocess import resized
from .row_sinks import RowFile
from .runner import Runner
from .spec import Task
from .values import FloatArray, Image


def class_probabilities(runner: Runner, image: Image) -> FloatArray:
    """Probability of each class (classes,) for a picture (h, w, 3) uint8 BGR."""
    probabilities: FloatArray = runner(resized(image, runner.spec.input_size[0])[None])["probabilities"][0]
    return probabilities


def classify_pictures(runner: Runner, inputs: Sequence[Path], *, json_target: str) -> list[str]:
    """Write a row {"image", "class", "classes": {name: probability}} a picture; returns what failed, a line each.

    Raises:
        ModelError: not a classifier.
    """
    if runner.spec.task is not Task.CLASSIFY:
        raise ModelError(f"wanted a classifier, found a model for {runner.spec.task.value}")
    rows = RowFile(json_target)
    failures: list[str] = []
    try:
        for path in expand(inputs, failures):
            try:
                values = class_probabilities(runner, read_image(path)).tolist()
            except InputError as error:
                failures.append(str(error))
                continue
            classes = {name: round(p, 5) for name, p in zip(runner.spec.classes, values, strict=True)}
            if not rows.write(
                {"image": str(path), "class": max(classes, key=lambda n: classes[n]), "classes": classes}
            ):
                break
    finally:
        rows.close()
    return failures
