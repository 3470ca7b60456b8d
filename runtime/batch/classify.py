"""Classify whole pictures, and write the classes on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..faces.classifier import class_probabilities
from ..models.runner import Runner
from ..models.spec import Task
from ..output.overlay import class_lines, draw_faces
from ..output.rows import RowFile, picture_head
from ..pictures.folders import list_pictures
from ..pictures.images import derived_suffix, encode_image, read_frames, write_file
from ..values import Faces, Progress
from .new_files import NewFiles, resolved
from .parallel import counter, map_pictures
from .predict import RowWriter


def classify_pictures(
    runner: Runner,
    inputs: Sequence[Path],
    *,
    json_target: str | None = None,
    report: RowWriter | None = None,
    draw: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[str]:
    """Write one row ``{"image", "class", "classes": {name: probability}}`` per picture, or per frame of an animation.

    Args:
        runner: A classifier.
        inputs: Pictures, and folders of pictures.
        json_target: File of JSON lines, ``-`` for standard output, or None.
        report: Receives the rows too; closed by the caller.
        draw: Folder for pictures with the likeliest classes written on them; created if missing.
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
    drawings = None if draw is None else NewFiles(draw, resolved([json_target]))

    def classify(path: Path) -> Iterator[tuple[dict[str, Any], bytes | None]]:
        for frame in read_frames(path):
            probabilities = class_probabilities(runner, frame.pixels).tolist()
            classes = {name: round(p, 5) for name, p in zip(runner.spec.classes, probabilities, strict=True)}
            best = max(classes, key=lambda name: classes[name])
            drawn = None
            if drawings is not None:
                pixels = draw_faces(frame.pixels, Faces.empty(), hud=class_lines(classes))
                drawn = encode_image(pixels, suffix=derived_suffix(path))
            yield picture_head(str(path), frame.index) | {"class": best, "classes": classes}, drawn

    def write(path: Path, result: tuple[dict[str, Any], bytes | None]) -> bool:
        row, drawn = result
        if drawings is not None and drawn is not None:
            number = f"-{row['frame']}" if "frame" in row else ""
            write_file(drawings.name(path, f"{number}{derived_suffix(path)}"), drawn)
        going = [writer.write(row) for writer in writers]  # each of them gets the row
        return all(going)

    with ExitStack() as opened:
        writers: list[RowWriter] = [] if report is None else [report]
        if json_target is not None:
            writers.append(opened.enter_context(RowFile(json_target)))
        tick = counter(len(paths), progress)
        map_pictures(paths, classify, write, workers=workers, failed=failures.append, tick=tick)
    return failures
