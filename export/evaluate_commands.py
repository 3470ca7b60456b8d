"""`mien evaluate …`: accuracy on labelled pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ..runtime.detector import DEFAULT_MAX_SIDE
from ..runtime.runner import Provider
from ..runtime.shipped import shipped_model
from .cli_options import AS_JSON, DATA, DETECTOR, HELD_OUT, MAX_SIDE, MODEL, PROVIDER, THREADS
from .messages import say, stderr
from .opening import open_pipeline, open_runner

DETECTOR_MODEL = typer.Option(None, "--model", help="Detector of mien or a YuNet file; default: the shipped one.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure a model's accuracy on labelled pictures.")


class Peer(str, Enum):
    """Whose landmarks to measure beside mien's."""

    FACE_ALIGNMENT = "face-alignment"


@evaluate_app.command("landmarks", epilog="mien evaluate landmarks --data landmarks68 --held-out --json")
def evaluate_landmarks(
    data: Path = DATA,
    model: Path | None = MODEL,
    held_out: bool = HELD_OUT,
    detect: bool = typer.Option(False, "--detect", help="Measure the whole pipeline instead of labelled crops."),
    against: Peer | None = typer.Option(
        None, "--against", help="Measure this package too, if installed; it downloads its weights."
    ),
    detector: Path | None = DETECTOR,
    provider: Provider = PROVIDER,
    threads: int = THREADS,
    as_json: bool = AS_JSON,
) -> None:
    """NME, AUC@8 and FR@8 of landmarks, in all and by source."""
    from .evaluation import evaluate_landmarks as evaluate
    from .evaluation import evaluate_pipeline

    if detect:
        with open_pipeline(model, detector, provider=provider, threads=threads, max_side=DEFAULT_MAX_SIDE) as pipeline:
            summary = evaluate_pipeline(pipeline, data, validation_only=held_out, progress=progress)
    else:
        with open_runner(model or shipped_model("landmarks"), provider=provider, threads=threads) as runner:
            summary = evaluate(runner, data, validation_only=held_out, progress=progress)
    summary = {"model": model.name if model else "shipped", **summary}
    if against is not None:
        from .against_face_alignment import evaluate_face_alignment

        peer = evaluate_face_alignment(data, validation_only=held_out, progress=progress)
        summary[against.value] = {k: peer[k] for k in ("count", "nme", "auc8", "fr8")}
    print_evaluation(summary, as_json)


@evaluate_app.command("detector", epilog="mien evaluate detector --data faces --held-out --json")
def evaluate_detector(
    data: Path = DATA,
    model: Path | None = DETECTOR_MODEL,
    held_out: bool = HELD_OUT,
    provider: Provider = PROVIDER,
    threads: int = THREADS,
    max_side: int = MAX_SIDE,
    as_json: bool = AS_JSON,
) -> None:
    """AP50, recall and precision of a detector, by smallest size of face."""
    from ..runtime.detector import open_detector
    from .accuracy import LOWEST_SCORE
    from .evaluation import evaluate_detector as evaluate

    found = open_detector(
        model or shipped_model("detector"),
        provider=provider,
        threads=threads,
        max_side=max_side,
        min_score=LOWEST_SCORE,
    )
    summary = evaluate(found, data, validation_only=held_out, progress=progress)
    print_evaluation({"model": model.name if model else "shipped", **summary}, as_json)


@evaluate_app.command("age-gender", epilog="mien evaluate age-gender --data age_gender --held-out --json")
def evaluate_age_gender(
    data: Path = DATA,
    model: Path | None = MODEL,
    held_out: bool = HELD_OUT,
    detect: bool = typer.Option(False, "--detect", help="Measure the whole pipeline instead of given crops."),
    detector: Path | None = DETECTOR,
    provider: Provider = PROVIDER,
    threads: int = THREADS,
    as_json: bool = AS_JSON,
) -> None:
    """MAE, CS@5, gender accuracy and its calibration, in all and by decade."""
    from .evaluation_attributes import evaluate_age_gender as evaluate
    from .evaluation_attributes import evaluate_age_gender_pipeline

    if detect:
        with open_pipeline(
            None, detector, model, attributes=True, provider=provider, threads=threads, max_side=DEFAULT_MAX_SIDE
        ) as pipeline:
            summary = evaluate_age_gender_pipeline(pipeline, data, validation_only=held_out, progress=progress)
    else:
        with open_runner(model or shipped_model("age_gender"), provider=provider, threads=threads) as runner:
            summary = evaluate(runner, data, validation_only=held_out, progress=progress)
    print_evaluation({"model": model.name if model else "shipped", **summary}, as_json)


@evaluate_app.command("classify", epilog="mien evaluate classify --model pets.onnx --data cats_dogs --held-out")
def evaluate_classify(
    data: Path = typer.Option(..., "--data", help="Folder of a folder a class.", show_default=False),
    model: Path = typer.Option(..., "--model", help="Model file (.onnx) or checkpoint (.pt).", show_default=False),
    held_out: bool = HELD_OUT,
    provider: Provider = PROVIDER,
    threads: int = THREADS,
    as_json: bool = AS_JSON,
) -> None:
    """Accuracy of a classifier, in all and by class."""
    from .evaluation_attributes import evaluate_classes

    with open_runner(model, provider=provider, threads=threads) as runner:
        summary = evaluate_classes(runner, data, validation_only=held_out, progress=progress)
    print_evaluation({"model": model.name, **summary}, as_json)


def print_evaluation(summary: dict[str, Any], as_json: bool) -> None:
    """Print a summary for people or for programs; pictures that could not be read end with exit code 2."""
    for message in summary["unreadable"]:
        say(f"skipped: {message}", style="red")
    if as_json:
        print(json.dumps(summary))
    else:
        print_tables({k: v for k, v in summary.items() if k != "unreadable"})
    if summary["unreadable"]:
        raise typer.Exit(2)


def print_tables(summary: dict[str, Any]) -> None:
    """Print single figures on one line, and groups of them as tables."""
    groups = {k: v if _nested(v) else {"": v} for k, v in summary.items() if isinstance(v, dict)}
    flat = {k: v for k, v in summary.items() if not isinstance(v, dict)}
    print("  ".join(f"{k}: {v}" for k, v in flat.items()))
    for title, rows in groups.items():
        table = Table(title=title)
        first = next(iter(rows.values()))
        for heading in ("", *first):
            table.add_column(heading, justify="right")
        for name, row in rows.items():
            table.add_row(name, *(str(v) for v in row.values()))
        Console().print(table)


def _nested(rows: dict[str, Any]) -> bool:
    return isinstance(next(iter(rows.values())), dict)


def progress(items: Sequence[Any], title: str) -> Iterable[Any]:
    """A progress bar on standard error."""
    return track(items, description=title, console=stderr, transient=True)
