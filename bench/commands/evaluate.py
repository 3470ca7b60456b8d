"""`mien evaluate …`: accuracy on labelled pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mien.bench.bridge import PyTorchBridge
from mien.runtime.backends.open_runner import open_model
from mien.runtime.commands.console import needs_torch, say, stderr
from mien.runtime.commands.options import AS_JSON, DATA, DETECTOR, HELD_OUT, MAX_SIDE, MODEL, PROVIDER, THREADS
from mien.runtime.errors import ProviderError
from mien.runtime.faces.pipeline import Pipeline
from mien.runtime.models.runner import Provider, Runner
from mien.runtime.models.shipped import shipped_model

DETECTOR_MODEL = typer.Option(None, "--model", help="Detector of mien or a YuNet file; default: the shipped one.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure a model's accuracy on labelled pictures.")


class Peer(str, Enum):
    """Whose landmarks to measure beside mien's."""

    FACE_ALIGNMENT = "face-alignment"


@evaluate_app.command("landmarks", epilog="mien evaluate landmarks --data landmarks68 --held-out --json")
def evaluate_landmarks(
    ctx: typer.Context,
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
    from mien.bench.accuracy.evaluate_faces import evaluate_landmarks as evaluate
    from mien.bench.accuracy.evaluate_faces import evaluate_pipeline

    if detect:
        with Pipeline.load(
            model=model,
            detector=detector,
            attributes=False,
            provider=provider,
            threads=threads,
            open_runner=opener_of(ctx.obj),
        ) as pipeline:
            summary = evaluate_pipeline(pipeline, data, validation_only=held_out, progress=progress)
    else:
        with opener_of(ctx.obj)(model or shipped_model("landmarks"), provider=provider, threads=threads) as runner:
            summary = evaluate(runner, data, validation_only=held_out, progress=progress)
    summary = {"model": model.name if model else "shipped", **summary}
    if against is not None:
        from mien.bench.accuracy.face_alignment_peer import evaluate_face_alignment

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
    from mien.bench.accuracy.evaluate_faces import evaluate_detector as evaluate
    from mien.bench.accuracy.measure import LOWEST_SCORE
    from mien.runtime.faces.detector import open_detector

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
    ctx: typer.Context,
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
    from mien.bench.accuracy.evaluate_attributes import evaluate_age_gender as evaluate
    from mien.bench.accuracy.evaluate_attributes import evaluate_age_gender_pipeline

    if detect:
        with Pipeline.load(
            detector=detector,
            age_gender=model,
            provider=provider,
            threads=threads,
            open_runner=opener_of(ctx.obj),
        ) as pipeline:
            summary = evaluate_age_gender_pipeline(pipeline, data, validation_only=held_out, progress=progress)
    else:
        with opener_of(ctx.obj)(model or shipped_model("age_gender"), provider=provider, threads=threads) as runner:
            summary = evaluate(runner, data, validation_only=held_out, progress=progress)
    print_evaluation({"model": model.name if model else "shipped", **summary}, as_json)


@evaluate_app.command("classify", epilog="mien evaluate classify --model pets.onnx --data cats_dogs --held-out")
def evaluate_classify(
    ctx: typer.Context,
    data: Path = typer.Option(..., "--data", help="Folder of a folder a class.", show_default=False),
    model: Path = typer.Option(..., "--model", help="Model file (.onnx) or checkpoint (.pt).", show_default=False),
    held_out: bool = HELD_OUT,
    provider: Provider = PROVIDER,
    threads: int = THREADS,
    as_json: bool = AS_JSON,
) -> None:
    """Accuracy of a classifier, in all and by class."""
    from mien.bench.accuracy.evaluate_attributes import evaluate_classes

    with opener_of(ctx.obj)(model, provider=provider, threads=threads) as runner:
        summary = evaluate_classes(runner, data, validation_only=held_out, progress=progress)
    print_evaluation({"model": model.name, **summary}, as_json)


def opener_of(bridge: PyTorchBridge) -> Callable[..., Runner]:
    """Return a function that opens a model file, or a checkpoint in eager PyTorch on the CPU."""

    def opened(path: Path, *, provider: Provider, threads: int) -> Runner:
        if path.suffix.lower() != ".pt":
            return open_model(path, provider=provider, threads=threads)
        if provider not in (Provider.AUTO, Provider.CPU):
            raise ProviderError(
                f"{provider.value} was asked for, but {path} is a checkpoint, which runs in PyTorch on the CPU; run: "
                f"mien export {path} -o {path.stem}.onnx, and take that file"
            )
        with needs_torch():
            return bridge.open_checkpoint(path, threads=threads)

    return opened


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
