"""Classify whole pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import ModelError
from ..faces.classifier import class_probabilities
from ..images import expand, read_image
from ..models.runner import Runner
from ..models.spec import Task
from ..output.rows import RowFile
from ..values import FloatArray, Progress
from .parallel import counter, map_pictures


def classify_pictures(
    runner: Runner, inputs: Sequence[Path], *, json_target: str, workers: int = 1, progress: Progress | None = None
) -> list[str]:
    """Write one row ``{"image", "class", "classes": {name: probability}}`` per picture.

    Args:
        runner: A classifier.
        inputs: Pictures, and folders of pictures.
        json_target: File of JSON lines, or ``-`` for standard output.
        workers: Pictures processed at once.
        progress: Called after each picture.

    Returns:
        One message per input that was skipped.

    Raises:
        ModelError: The model is not a classifier.
        OutputError: The rows cannot be written.
    """
    if runner.spec.task is not Task.CLASSIFY:
        raise ModelError(f"expected a classifier, found a model for {runner.spec.task.value}")
    failures: list[str] = []
    paths = list(expand(inputs, failures))

    def classify(path: Path) -> FloatArray:
        return class_probabilities(runner, read_image(path))

    def write(path: Path, probabilities: FloatArray) -> bool:
        classes = {name: round(p, 5) for name, p in zip(runner.spec.classes, probabilities.tolist(), strict=True)}
        return rows.write({"image": str(path), "class": max(classes, key=lambda n: classes[n]), "classes": classes})

    with RowFile(json_target) as rows:
        tick = counter(len(paths), progress)
        map_pictures(paths, classify, write, workers=workers, failed=failures.append, tick=tick)
    return failures
