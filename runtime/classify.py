"""Classifiers of whole pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import ModelError
from .images import expand, read_image
from .preprocess import resized
from .row_sinks import RowFile
from .runner import Runner
from .spec import Task
from .values import FloatArray, Image
from .workers import Progress, counter, look_at_each


def class_probabilities(runner: Runner, image: Image) -> FloatArray:
    """Probability of each class (classes,) for a picture (h, w, 3) uint8 BGR."""
    probabilities: FloatArray = runner(resized(image, runner.spec.input_size[0])[None])["probabilities"][0]
    return probabilities


def classify_pictures(
    runner: Runner, inputs: Sequence[Path], *, json_target: str, workers: int = 1, progress: Progress | None = None
) -> list[str]:
    """Write a row {"image", "class", "classes": {name: probability}} a picture; returns what failed, a line each.

    workers: pictures at once.

    Raises:
        ModelError: not a classifier.
    """
    if runner.spec.task is not Task.CLASSIFY:
        raise ModelError(f"wanted a classifier, found a model for {runner.spec.task.value}")
    rows = RowFile(json_target)
    failures: list[str] = []
    paths = list(expand(inputs, failures))

    def look(path: Path) -> FloatArray:
        return class_probabilities(runner, read_image(path))

    def write(path: Path, probabilities: FloatArray) -> bool:
        classes = {name: round(p, 5) for name, p in zip(runner.spec.classes, probabilities.tolist(), strict=True)}
        return rows.write({"image": str(path), "class": max(classes, key=lambda n: classes[n]), "classes": classes})

    try:
        look_at_each(paths, look, write, workers=workers, failed=failures.append, tick=counter(len(paths), progress))
    finally:
        rows.close()
    return failures
