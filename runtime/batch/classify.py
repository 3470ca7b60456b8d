"""Classify whole pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..faces.classifier import class_probabilities
from ..folders import list_pictures
from ..images import read_frames
from ..models.runner import Runner
from ..models.spec import Task
from ..output.rows import RowFile, picture_head
from ..values import Progress
from .parallel import counter, map_pictures
from .predict import RowWriter


def classify_pictures(
    runner: Runner,
    inputs: Sequence[Path],
    *,
    json_target: str | None = None,
    report: RowWriter | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[str]:
    """Write one row ``{"image", "class", "classes": {name: probability}}`` per picture, or per frame of an animation.

    Args:
        runner: A classifier.
        inputs: Pictures, and folders of pictures.
        json_target: File of JSON lines, ``-`` for standard output, or None.
        report: Receives the rows too; closed by the caller.
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
    paths = list_pictures(inputs, failures)

    def classify(path: Path) -> Iterator[dict[str, Any]]:
        for frame in read_frames(path):
            probabilities = class_probabilities(runner, frame.pixels).tolist()
            classes = {name: round(p, 5) for name, p in zip(runner.spec.classes, probabilities, strict=True)}
            best = max(classes, key=lambda name: classes[name])
            yield picture_head(str(path), frame.index) | {"class": best, "classes": classes}

    def write(_: Path, row: dict[str, Any]) -> bool:
        going = [writer.write(row) for writer in writers]  # each of them gets the row
        return all(going)

    with ExitStack() as opened:
        writers: list[RowWriter] = [] if report is None else [report]
        if json_target is not None:
            writers.append(opened.enter_context(RowFile(json_target)))
        tick = counter(len(paths), progress)
        map_pictures(paths, classify, write, workers=workers, failed=failures.append, tick=tick)
    return failures
