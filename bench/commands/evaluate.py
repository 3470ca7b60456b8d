"""`mien evaluate …`: accuracy on labelled pictures."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from ...runtime.atomic_file import write_report
from ...runtime.backends.open_runner import open_model
from ...runtime.commands.console import print_table, progress_bar, require_train_extra, say
from ...runtime.commands.input_paths import existing_folder
from ...runtime.commands.options import AS_JSON, DATA, DETECTOR, HELD_OUT, MAX_SIDE, PROVIDER, THREADS
from ...runtime.commands.run_config import with_config
from ...runtime.errors import InputError, ProviderError
from ...runtime.models.runner import Provider, Runner, check_precision
from ...runtime.models.shipped import shipped_model
from ...runtime.models.spec import Precision
from ...runtime.output_paths import check_outputs
from ...runtime.pipeline.pipeline import Pipeline
from ..bridge import PyTorchBridge

MODEL = typer.Option(None, "--model", help="Model file (.onnx) or checkpoint (.pt); default: the shipped model.")
PRECISION = typer.Option(
    None, "--precision", help="Precision of the shipped models: fp32 or int8.", show_default=Precision.FP32.value
)
DETECTOR_MODEL = typer.Option(None, "--model", help="A mien detector or a YuNet file; default: the shipped detector.")
INDEX = "index.html"
REPORT = typer.Option(
    None,
    "--report",
    help="Write a web page with charts and the worst pictures to this folder or .html file.",
    show_default=False,
)
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure a model's accuracy on labelled pictures.")


class Peer(str, Enum):
    """Third-party package to compare mien's landmarks with."""

    FACE_ALIGNMENT = "face-alignment"


@evaluate_app.command("landmarks", epilog="mien evaluate landmarks --data landmarks68 --held-out --json")
@with_config
def evaluate_landmarks(
    ctx: typer.Context,
    data: Path = DATA,
    model: Path | None = MODEL,
    held_out: bool = HELD_OUT,
    detect: bool = typer.Option(
        False, "--detect", help="Evaluate the whole pipeline instead of crops around the labelled points."
    ),
    against: Peer | None = typer.Option(
        None, "--against", help="Also evaluate this package, which must be installed and downloads its weights."
    ),
    detector: Path | None = DETECTOR,
    precision: Precision | None = PRECISION,
    provider: Provider = PROVIDER,
    threads: int = THREADS,
    report: Path | None = REPORT,
    as_json: bool = AS_JSON,
) -> None:
    """Measure NME, AUC@8 and FR@8 of landmarks, overall and by source."""
    from ..accuracy.evaluate_faces import evaluate_landmarks as evaluate
    from ..accuracy.evaluate_faces import evaluate_pipeline
    from ..report.accuracy_report import landmark_sections

    check_detector(detector, detect)
    page = EvaluationPage(report, data, model, precision)
    opener, files = opener_of(ctx.obj), {"landmarks": model, "detector": detector}
    device: dict[str, Any] = {"provider": provider, "threads": threads}
    with progress_bar("evaluate") as progress:
        if detect:
            with _pipeline(opener, precision, **files, attributes=False, **device) as pipeline:
                found = evaluate_pipeline(pipeline, data, held_out=held_out, progress=progress)
        else:
            with _opened(opener, model, "landmarks", precision, **device) as runner:
                found = evaluate(runner, data, held_out=held_out, progress=progress)
        if against is not None:
            from ..accuracy.face_alignment_peer import evaluate_face_alignment

            peer = evaluate_face_alignment(data, held_out=held_out, progress=progress)
            found.summary[against.value] = {k: peer[k] for k in ("count", "nme", "auc8", "fr8")}
    print_evaluation(found.summary, page, lambda: landmark_sections(found.predicted, found.labels), as_json)


@evaluate_app.command("detector", epilog="mien evaluate detector --data faces --held-out --json")
@with_config
def evaluate_detector(
    data: Path = DATA,
    model: Path | None = DETECTOR_MODEL,
    held_out: bool = HELD_OUT,
    precision: Precision | None = PRECISION,
    provider: Provider = PROVIDER,
    threads: int = THREADS,
    max_side: int = MAX_SIDE,
    report: Path | None = REPORT,
    as_json: bool = AS_JSON,
) -> None:
    """Measure AP50, recall and precision of a detector, overall and by minimum face size."""
    from ...runtime.faces.detector import OwnDetector, open_detector
    from ..accuracy.evaluate_faces import LOWEST_SCORE
    from ..accuracy.evaluate_faces import evaluate_detector as evaluate
    from ..report.accuracy_report import detector_sections

    page = EvaluationPage(report, data, model, precision)
    path = model or shipped_model("detector", precision or Precision.FP32)
    opened = open_detector(path, provider=provider, threads=threads, max_side=max_side, min_score=LOWEST_SCORE)
    with contextlib.closing(opened) as detector, progress_bar("evaluate") as progress:
        if precision is not None and isinstance(detector, OwnDetector):
            check_precision(detector.runner, precision)
        found = evaluate(detector, data, held_out=held_out, progress=progress)
    score = found.summary["score"]
    print_evaluation(
        found.summary, page, lambda: detector_sections(found.predicted, found.labels.files, score), as_json
    )


@evaluate_app.command("age-gender", epilog="mien evaluate age-gender --data age_gender --held-out --json")
@with_config
def evaluate_age_gender(
    ctx: typer.Context,
    data: Path = DATA,
    model: Path | None = MODEL,
    held_out: bool = HELD_OUT,
    detect: bool = typer.Option(False, "--detect", help="Evaluate the whole pipeline instead of the crops as given."),
    detector: Path | None = DETECTOR,
    precision: Precision | None = PRECISION,
    provider: Provider = PROVIDER,
    threads: int = THREADS,
    report: Path | None = REPORT,
    as_json: bool = AS_JSON,
) -> None:
    """Measure MAE, CS@5, gender accuracy and its calibration, overall and by decade."""
    from ..accuracy.evaluate_attributes import evaluate_age_gender as evaluate
    from ..accuracy.evaluate_attributes import evaluate_age_gender_pipeline
    from ..report.accuracy_report import age_gender_sections

    check_detector(detector, detect)
    page = EvaluationPage(report, data, model, precision)
    opener, files = opener_of(ctx.obj), {"age_gender": model, "detector": detector}
    device: dict[str, Any] = {"provider": provider, "threads": threads}
    with progress_bar("evaluate") as progress:
        if detect:
            with _pipeline(opener, precision, **files, **device) as pipeline:
                found = evaluate_age_gender_pipeline(pipeline, data, held_out=held_out, progress=progress)
        else:
            with _opened(opener, model, "age_gender", precision, **device) as runner:
                found = evaluate(runner, data, held_out=held_out, progress=progress)
    print_evaluation(found.summary, page, lambda: age_gender_sections(found.predicted, found.labels), as_json)


@evaluate_app.command("classify", epilog="mien evaluate classify --model pets.onnx --data cats_dogs --held-out")
@with_config
def evaluate_classify(
    ctx: typer.Context,
    data: Path = typer.Option(
        ..., "--data", callback=existing_folder, help="Folder with one subfolder per class.", show_default=False
    ),
    model: Path = typer.Option(..., "--model", help="Model file (.onnx) or checkpoint (.pt).", show_default=False),
    held_out: bool = HELD_OUT,
    provider: Provider = PROVIDER,
    threads: int = THREADS,
    report: Path | None = REPORT,
    as_json: bool = AS_JSON,
) -> None:
    """Measure the accuracy of a classifier, overall and by class."""
    from ..accuracy.evaluate_attributes import evaluate_classes
    from ..report.accuracy_report import class_sections

    page = EvaluationPage(report, data, model)
    with (
        opener_of(ctx.obj)(model, provider=provider, threads=threads) as runner,
        progress_bar("evaluate") as progress,
    ):
        found = evaluate_classes(runner, data, held_out=held_out, progress=progress)
    print_evaluation(found.summary, page, lambda: class_sections(found.predicted, found.labels), as_json)


def check_detector(detector: Path | None, detect: bool) -> None:
    """Reject a detector that would not be used.

    Raises:
        InputError: There is a detector, but no face is to be detected.
    """
    if detector is not None and not detect:
        raise InputError(f"--detector {detector} goes with --detect, which evaluates the whole pipeline; pass both")


@contextlib.contextmanager
def _opened(
    opener: Callable[..., Runner], model: Path | None, name: str, precision: Precision | None, **device: Any
) -> Iterator[Runner]:
    with opener(model or shipped_model(name, precision or Precision.FP32), **device) as runner:
        if precision is not None:
            check_precision(runner, precision)
        yield runner


def _pipeline(
    opener: Callable[..., Runner],
    precision: Precision | None,
    *,
    landmarks: Path | None = None,
    detector: Path | None,
    age_gender: Path | None = None,
    **options: Any,
) -> Pipeline:
    shipped = precision or Precision.FP32
    return Pipeline.load(
        model=landmarks or shipped_model("landmarks", shipped),
        detector=detector or shipped_model("detector", shipped),
        age_gender=age_gender or shipped_model("age_gender", shipped),
        precision=precision,
        open_runner=opener,
        **options,
    )


def opener_of(bridge: PyTorchBridge) -> Callable[..., Runner]:
    """Return a function that opens a model file, or a checkpoint in eager PyTorch on the CPU."""

    def opened(path: Path, *, provider: Provider, threads: int) -> Runner:
        if path.suffix.lower() != ".pt":
            return open_model(path, provider=provider, threads=threads)
        if provider not in (Provider.AUTO, Provider.CPU):
            command = shlex.join(["mien", "export", str(path), "-o", f"{path.stem}.onnx"])
            raise ProviderError(
                f"--provider {provider.value} needs a model file, but {path} is a checkpoint, which runs in PyTorch on "
                f"the CPU; run: {command}, and pass that file"
            )
        with require_train_extra():
            return bridge.open_checkpoint(path, threads=threads)

    return opened


class EvaluationPage:
    """Page requested by ``--report``, if any; its path is checked before the evaluation.

    Attributes:
        evaluated: Name of the evaluated model.

    Raises:
        InputError: The folder already holds a page, or the file is an input.
        OutputError: The page cannot be written to that path.
    """

    def __init__(self, report: Path | None, data: Path, model: Path | None, precision: Precision | None = None) -> None:
        shipped = "shipped" if precision in (None, Precision.FP32) else f"shipped {precision.value}"
        self.evaluated, self._data = shipped if model is None else model.name, data
        self._file: Path | None = None
        if report is None:
            return
        is_file = report.suffix.lower() in (".html", ".htm") and not report.is_dir()
        self._file = report if is_file else report / INDEX
        if not is_file and self._file.exists():
            raise InputError(f"{report} already holds a report; choose another folder, or name {self._file}")
        check_outputs({"--report": self._file if report.exists() else report}, [data, model])

    def write(self, summary: dict[str, Any], sections: Callable[[], str]) -> None:
        """Write the page, if one was requested; `sections` renders its charts and pictures."""
        from ..report.accuracy_report import accuracy_page

        if self._file is not None:
            with contextlib.suppress(OSError):  # write_report raises the error with a better message
                self._file.parent.mkdir(exist_ok=True)
            write_report(self._file, accuracy_page(summary, self._data, sections()))
            say(f"report: {self._file}")


def print_evaluation(summary: dict[str, Any], page: EvaluationPage, sections: Callable[[], str], as_json: bool) -> None:
    """Print a summary as tables or JSON, and write its page.

    Args:
        summary: Metrics of the evaluation.
        page: Page to write.
        sections: Renders the page's charts and pictures.
        as_json: Print JSON.

    Raises:
        typer.Exit: With code 2 if pictures could not be read.
    """
    summary = {"model": page.evaluated, **summary}
    for message in summary["unreadable"]:
        say(f"skipped: {message}", style="red")
    if as_json:
        print(json.dumps(summary))
    else:
        print_tables({k: v for k, v in summary.items() if k != "unreadable"})
    page.write(summary, sections)
    if summary["unreadable"]:
        raise typer.Exit(2)


def print_tables(summary: dict[str, Any]) -> None:
    """Print single metrics on one line, and groups of metrics as tables."""
    from ..report.accuracy_report import group_tables

    print("  ".join(f"{k}: {v}" for k, v in summary.items() if not isinstance(v, dict)))
    for title, table in group_tables(summary).items():
        print_table(title, *table)
