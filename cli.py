"""The command line: the only place where training, export, bench and runtime meet.

Results go to standard output, everything else to standard error. Exit codes: 0 ok, 1 a check failed, 2 misuse,
128 + n ended by signal n (130: Ctrl-C). Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

try:
    from mien.runtime.errors import CheckFailed, InputError, MienError
    from mien.runtime.runner import DEFAULT_THREADS, Provider
except ModuleNotFoundError as missing:
    if missing.name not in ("mien", "cv2", "onnxruntime"):
        raise
    raise SystemExit(
        f"{missing.name} is not installed here; choose a profile: pip install 'mien[cpu]' (or headless, cuda, jetson; "
        "from a checkout: pip install -e '.[cpu]')"
    ) from None

import cv2
import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress, track
from rich.table import Table
from typer.core import TyperGroup

stderr = Console(stderr=True)


def say(text: str, *, style: str = "") -> None:
    """Tell people something, on standard error; square brackets are text, not markup."""
    stderr.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


class ErrorsInOneLine(TyperGroup):
    """Turns mien's errors and Ctrl-C into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except MienError as error:
            say(f"error: {error}", style="red")
            raise typer.Exit(1 if isinstance(error, CheckFailed) else 2) from error
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(130) from None


class Weights(str, Enum):
    """How a backbone's weights want their input."""

    IMAGENET = "imagenet"
    SYMMETRIC = "symmetric"


class Baseline(str, Enum):
    """What a ratio is taken to."""

    EAGER = "eager"
    NONE = "none"


app = typer.Typer(
    name="mien",
    cls=ErrorsInOneLine,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Face landmarks at the edge: train in PyTorch, export to ONNX, run and measure on ONNX Runtime.",
    epilog="Start with: [bold]mien webcam --source demo[/bold]",
)
train_app = typer.Typer(no_args_is_help=True, help="Train a model by transfer learning.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure a model's accuracy on labelled pictures.")
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")


@app.callback()
def options(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Tell more of what happens."),
) -> None:
    """Set up logging; the library itself never prints, and OpenCV's own chatter is not for users."""
    if not verbose:
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        if (levels := getattr(cv2.utils, "logging", None)) is not None:  # not in OpenCV 4.8
            levels.setLogLevel(levels.LOG_LEVEL_ERROR)
    handler = RichHandler(console=stderr, show_path=False, show_time=False, markup=False)
    logger = logging.getLogger("mien")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO if verbose else logging.WARNING)


# Options that several commands share.
DATA = typer.Option(..., "--data", help="Folder with images and labels.", show_default=False)
MODEL = typer.Option(None, "--model", help="Model file (.onnx) or checkpoint (.pt); default: the shipped one.")
DETECTOR = typer.Option(None, "--detector", help="Detector of mien or a YuNet file; default: the shipped one.")
DETECTOR_MODEL = typer.Option(None, "--model", help="Detector of mien or a YuNet file; default: the shipped one.")
PROVIDER = typer.Option(Provider.AUTO, "--provider", help="What runs the models; auto takes the fastest that works.")
THREADS = typer.Option(DEFAULT_THREADS, "--threads", min=0, help="Threads of one operator; 0: all cores.")
MAX_SIDE = typer.Option(640, "--max-side", min=64, help="Detect on pictures reduced to this longer side, px.")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")
HELD_OUT = typer.Option(False, "--held-out", help="Only what mien train holds out of this folder for validation.")
BACKBONE_WEIGHTS = typer.Option(
    "default", "--weights", help="default (torchvision's, downloaded), none, or a .safetensors/.pt FILE."
)
NORMALISE = typer.Option(Weights.IMAGENET, "--normalise", help="Input scale that those weights were trained on.")
OUT = typer.Option(None, "--out", help="Folder for checkpoints, metrics.csv and curves.png.", show_default="runs/TASK")
RESUME = typer.Option(False, "--resume", help="Go on where the training in --out was interrupted.")
EPOCHS = typer.Option(60, "--epochs", min=1)
SEED = typer.Option(0, "--seed", min=0)
WORKERS = typer.Option(1, "--workers", min=0, help="Processes that prepare batches.")
PATIENCE = typer.Option(0, "--patience", min=0, help="Stop after so many epochs without improvement; 0: never.")
BFLOAT16 = typer.Option(False, "--bfloat16/--float32", help="Convolve in bfloat16 (fast on AVX512-BF16, AMX, GPUs).")
DEVICE = typer.Option("cpu", "--device", help="cpu, cuda, cuda:1, …")
FACE_FREE = typer.Option(None, "--face-free", help="Folder of pictures without faces.")


@train_app.command(
    "landmarks", epilog="mien train landmarks --data landmarks68 --backbone mobilenet_v2_lean --bfloat16"
)
def train_landmarks(
    data: Path = DATA,
    backbone: str = typer.Option("mobilenet_v2_lean", "--backbone", help="Name of a torchvision network."),
    weights: str = BACKBONE_WEIGHTS,
    normalise: Weights = NORMALISE,
    freeze: bool = typer.Option(False, "--freeze/--fine-tune", help="Keep the backbone's weights, or train them too."),
    input_size: int = typer.Option(112, "--input-size", min=64, help="Side of the crop, px."),
    face_free: Path | None = FACE_FREE,
    start: Path | None = typer.Option(None, "--start", help="Begin with the weights of this checkpoint."),
    gentle: bool = typer.Option(False, "--gentle", help="Stray less from upright, clean faces: for a last stage."),
    epochs: int = EPOCHS,
    batch_size: int = typer.Option(32, "--batch-size", min=2),
    learning_rate: float = typer.Option(1e-3, "--learning-rate"),
    seed: int = SEED,
    workers: int = WORKERS,
    patience: int = PATIENCE,
    bfloat16: bool = BFLOAT16,
    device: str = DEVICE,
    out: Path | None = OUT,
    resume: bool = RESUME,
) -> None:
    """Train the 68-point landmark model (with depth where the labels have it, and presence)."""
    with needs_torch():
        from mien.export.prologue import Normalisation
        from mien.export.train_landmarks import LandmarkTraining
        from mien.export.train_loop import TrainConfig
    task = LandmarkTraining(
        data,
        backbone=backbone,
        weights=weights,
        normalisation=Normalisation(normalise.value),
        frozen=freeze,
        input_size=input_size,
        face_free=face_free,
        start=start,
        gentle=gentle,
        seed=seed,
    )
    config = TrainConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        workers=workers,
        patience=patience,
        bfloat16=bfloat16,
        device=device,
    )
    run_training(task, config, out or Path("runs/landmarks"), resume)


@train_app.command("detector", epilog="mien train detector --data faces --data landmarks68 --data cats_dogs")
def train_detector(
    data: list[Path] = typer.Option(
        ..., "--data", help="Folder of boxed, landmarked or face-free pictures; repeat it."
    ),
    backbone: str = typer.Option("mobilenet_v2_short", "--backbone", help="Name of a torchvision network."),
    weights: str = BACKBONE_WEIGHTS,
    normalise: Weights = NORMALISE,
    input_size: int = typer.Option(320, "--input-size", min=128, help="Side of a training scene, px."),
    start: Path | None = typer.Option(None, "--start", help="Begin with the weights of this checkpoint."),
    scenes: int = typer.Option(2400, "--scenes", min=1, help="Scenes composed for each epoch."),
    epochs: int = EPOCHS,
    batch_size: int = typer.Option(12, "--batch-size", min=2),
    learning_rate: float = typer.Option(1e-3, "--learning-rate"),
    seed: int = SEED,
    workers: int = WORKERS,
    patience: int = PATIENCE,
    bfloat16: bool = BFLOAT16,
    device: str = DEVICE,
    out: Path | None = OUT,
    resume: bool = RESUME,
) -> None:
    """Train the face detector."""
    with needs_torch():
        from mien.export.prologue import Normalisation
        from mien.export.train_detector import DetectorTraining
        from mien.export.train_loop import TrainConfig
    task = DetectorTraining(
        data,
        backbone=backbone,
        weights=weights,
        normalisation=Normalisation(normalise.value),
        input_size=input_size,
        scenes=scenes,
        start=start,
        seed=seed,
    )
    config = TrainConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        workers=workers,
        patience=patience,
        bfloat16=bfloat16,
        device=device,
    )
    run_training(task, config, out or Path("runs/detector"), resume)


def run_training(task: Any, config: Any, out: Path, resume: bool) -> None:
    """Run the loop and say what to type next."""
    from mien.export.train_loop import BEST, LAST, fit

    logging.getLogger("mien").setLevel(logging.INFO)  # the epochs' metrics
    try:
        best = fit(task, config, out, resume=resume)
    except KeyboardInterrupt:
        kept = (out / LAST).is_file()
        say(f"interrupted; {f'the same command with --resume goes on from {out}' if kept else 'no epoch was finished'}")
        raise typer.Exit(130) from None
    say(f"best: {out / BEST}; next: mien export {out / BEST} -o model.onnx")
    print(json.dumps({"checkpoint": str(out / BEST), **best.metrics}))


@app.command(epilog="mien export runs/landmarks/best.pt -o landmarks.onnx --data landmarks68")
def export(
    checkpoint: Path = typer.Argument(..., help="Checkpoint (.pt) of mien train."),
    output: Path = typer.Option(..., "--output", "-o", help="Model file to write.", show_default=False),
    data: Path | None = typer.Option(None, "--data", help="Labelled folder to compare on; default: the demo picture."),
) -> None:
    """Export a checkpoint to ONNX. The file is only kept if it computes what PyTorch computes."""
    with needs_torch():
        from mien.export.parity_gate import describe
        from mien.export.to_onnx import export_onnx
    done = export_onnx(checkpoint, output, data=data)
    say(f"parity holds: {describe(done.parities)}")
    say(f"{done.path}: {done.size_bytes / 1e6:.2f} MB; next: mien bench {done.path}")


@app.command(epilog="mien predict photo.jpg --json - --draw out/")
def predict(
    inputs: list[Path] = typer.Argument(..., help="Images, folders of images, or videos."),
    json_out: str | None = typer.Option(None, "--json", help="File for the rows; - is standard output (the default)."),
    draw: Path | None = typer.Option(None, "--draw", help="Folder for the pictures with the faces drawn."),
    model: Path | None = MODEL,
    detector: Path | None = DETECTOR,
    provider: Provider = PROVIDER,
    threads: int = THREADS,
    max_side: int = MAX_SIDE,
) -> None:
    """Find faces in pictures and videos: a JSON row for each image or frame."""
    from mien.runtime.predict import Predictor

    with (
        open_pipeline(model, detector, provider=provider, threads=threads, max_side=max_side) as pipeline,
        Predictor(pipeline, json_target=json_out or "-", draw_folder=draw) as predictor,
    ):
        predictor.run(inputs)
    for message in predictor.failures:
        say(f"skipped: {message}", style="red")
    if predictor.failures:
        raise typer.Exit(2)


@app.command(epilog="mien webcam --source clip.mp4 --output faces.mp4 --no-show")
def webcam(
    source: str = typer.Option("0", "--source", help="0, /dev/video0, FILE, folder, URL, csi://0, gst:…, demo, -"),
    show: bool = typer.Option(True, "--show/--no-show", help="Open a window (keys: q, space, s, h, m)."),
    output: Path | None = typer.Option(None, "--output", help="Video file to write (.mp4, .avi, .mkv, .webm)."),
    json_out: str | None = typer.Option(None, "--json", help="File for JSON lines; - is standard output."),
    csv_out: Path | None = typer.Option(None, "--csv", help="File for a line a face (CSV)."),
    size: str | None = typer.Option(None, "--size", help="WIDTHxHEIGHT to ask a camera for; needed with --source -."),
    fps: float | None = typer.Option(None, "--fps", min=0.1, help="Rate to ask a camera for, or of pictures and -."),
    stats: Path | None = typer.Option(None, "--stats", help="File for the stage latencies at the end (JSON)."),
    max_frames: int | None = typer.Option(None, "--max-frames", min=1, help="Stop after so many frames."),
    smooth: float = typer.Option(
        1.0, "--smooth", min=0.0, help="One-Euro cutoff at rest, Hz; lower is stiller; 0: off."
    ),
    detect_every: int = typer.Option(15, "--detect-every", min=1, help="Look for new faces every N frames."),
    model: Path | None = MODEL,
    detector: Path | None = DETECTOR,
    provider: Provider = PROVIDER,
    threads: int = THREADS,
    max_side: int = typer.Option(480, "--max-side", min=64, help="Detect on frames reduced to this longer side, px."),
) -> None:
    """Follow faces in a live or recorded video."""
    from mien.runtime.capture import open_capture
    from mien.runtime.files import check_writable
    from mien.runtime.live import LiveRun, close_all
    from mien.runtime.row_sinks import CsvSink, JsonLinesSink
    from mien.runtime.sinks import BackgroundSink, Sink, VideoSink, View, WindowSink
    from mien.runtime.smoothing import OneEuro

    if stats is not None:
        check_writable(stats)
    with (
        open_pipeline(model, detector, provider=provider, threads=threads, max_side=max_side) as pipeline,
        # What is only looked at plays at its own pace; what is written loses no frame.
        open_capture(
            source,
            size=size_in_px(size),
            fps=fps,
            paced=show and output is None and json_out is None and csv_out is None,
        ) as capture,
    ):
        sinks: list[Sink] = []
        view = View()
        try:
            if show:
                sinks.append(WindowSink(view))
            if output is not None:
                sinks.append(BackgroundSink(VideoSink(output, fps=capture.fps or 30.0), live=capture.live))
            if csv_out is not None:
                sinks.append(BackgroundSink(CsvSink(csv_out), live=capture.live))
            if json_out is not None:
                sinks.append(BackgroundSink(JsonLinesSink(json_out), live=capture.live))
        except MienError:
            close_all(sinks)
            raise
        smoothing = OneEuro(min_cutoff_hz=smooth) if smooth > 0 else None
        run = LiveRun(capture, pipeline, sinks, detect_every=detect_every, smoothing=smoothing, view=view)
        summary = run.run(max_frames=max_frames)
    if stats is not None:
        stats.write_text(json.dumps(summary.to_row(), indent=2) + "\n", encoding="utf-8")
    print_summary(summary, output)
    if run.ended_by is not None:
        raise typer.Exit(128 + run.ended_by)
    if summary.ended_early:
        say(f"error: {source} ended before its last frame; what could be read was processed", style="red")
        raise typer.Exit(2)
    if not summary.processed:
        raise InputError(f"{source} gave no frame")


def size_in_px(text: str | None) -> tuple[int, int] | None:
    """Parse WIDTHxHEIGHT."""
    if text is None:
        return None
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()) or not int(width) or not int(height):
        raise InputError(f"--size wants WIDTHxHEIGHT such as 640x480; found {text!r}")
    return int(width), int(height)


def print_summary(summary: Any, output: Path | None) -> None:
    """Tell how fast a run was."""
    table = Table(
        title=f"{summary.processed} frames on {summary.provider}, {summary.dropped} dropped, ≤ {summary.faces} face(s)"
    )
    for heading in ("stage", "p50 ms", "p95 ms", "p99 ms", "n"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage, row in summary.stages.items():
        table.add_row(stage, *(f"{row[f'p{p}_ms']:.2f}" for p in (50, 95, 99)), f"{row['n']}")
    stderr.print(table)
    if summary.unwritten:
        say(f"{summary.unwritten} results were not written: the outputs were slower than the camera", style="yellow")
    if output is not None and summary.processed:
        say(f"wrote {output}")


@app.command(epilog="mien bench landmarks.onnx --batch 1,8 --json bench.json")
def bench(
    models: list[Path] = typer.Argument(None, help="Model files or checkpoints; default: the shipped models."),
    providers: str = typer.Option("cpu", "--providers", help="Comma-separated: cpu, cuda."),
    baseline: Baseline | None = typer.Option(None, "--baseline", help="Default: eager where torch is installed."),
    batch: str = typer.Option("1", "--batch", help="Images in a call, comma-separated."),
    threads: int = typer.Option(1, "--threads", min=1, help="Threads of one operator, and of PyTorch."),
    rounds: int = typer.Option(20, "--rounds", min=1, help="Rounds in which all candidates take turns."),
    calls: int = typer.Option(10, "--calls", min=1, help="Calls of each candidate in a round."),
    yardstick: bool = typer.Option(False, "--yardstick", help="Also measure torchvision's mobilenet_v2 at 224 px."),
    data: Path | None = typer.Option(None, "--data", help="Folder the inputs come from; default: the demo picture."),
    json_out: Path | None = typer.Option(None, "--json", help="File for the report with all raw values."),
) -> None:
    """Measure latency on real images, against eager PyTorch, with the parity that allows the comparison."""
    from mien.export.benchmark import BenchOptions, has_torch, run_bench
    from mien.runtime.files import check_writable

    if json_out is not None:
        check_writable(json_out)
    if baseline is None and not has_torch():
        say("PyTorch is not installed: no eager baseline (pip install 'mien[train]' adds it)")
    with needs_torch():
        if baseline is Baseline.EAGER and not has_torch():
            raise InputError("--baseline eager needs torch, which is not installed; run: pip install 'mien[train]'")
        options = BenchOptions(
            batches=tuple(numbers(batch, "--batch")),
            threads=threads,
            rounds=rounds,
            calls_per_round=calls,
            baseline=has_torch() if baseline is None else baseline is Baseline.EAGER,
            yardstick=yardstick,
            providers=tuple(providers_of(providers)),
            data=data,
        )
        # No refreshing by a thread of its own: it would run inside the timed calls.
        with Progress(console=stderr, transient=True, auto_refresh=False) as bar:
            task = bar.add_task("bench", total=rounds)
            report = run_bench(
                models or [], options, progress=lambda done, _: bar.update(task, completed=done, refresh=True)
            )
    if json_out is not None:
        json_out.write_text(report.to_json(), encoding="utf-8")
    print(report.to_markdown(), end="")
    if any(row.parity is not None and not row.parity for row in report.rows):
        raise CheckFailed("a candidate does not compute what its reference computes; see the table")


def numbers(text: str, option: str) -> list[int]:
    """Parse a comma-separated list of positive whole numbers."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} wants whole numbers such as 1,8; found {text!r}") from None
    if min(values) < 1:
        raise InputError(f"{option} wants numbers from 1 on; found {text!r}")
    return values


def providers_of(text: str) -> list[Provider]:
    """Parse a comma-separated list of providers."""
    try:
        return [Provider(part.strip()) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--providers wants cpu or cuda; found {text!r}") from None


@evaluate_app.command("landmarks", epilog="mien evaluate landmarks --data landmarks68 --held-out --json")
def evaluate_landmarks(
    data: Path = DATA,
    model: Path | None = MODEL,
    held_out: bool = HELD_OUT,
    detect: bool = typer.Option(False, "--detect", help="Measure the whole pipeline instead of labelled crops."),
    detector: Path | None = DETECTOR,
    provider: Provider = PROVIDER,
    threads: int = THREADS,
    as_json: bool = AS_JSON,
) -> None:
    """NME, AUC@8 and FR@8 of landmarks, in all and by source."""
    from mien.export.evaluation import evaluate_landmarks as evaluate
    from mien.export.evaluation import evaluate_pipeline

    if detect:
        with open_pipeline(model, detector, provider=provider, threads=threads, max_side=640) as pipeline:
            summary = evaluate_pipeline(pipeline, data, validation_only=held_out, progress=progress)
    else:
        with open_runner(model, "landmarks", provider=provider, threads=threads) as runner:
            summary = evaluate(runner, data, validation_only=held_out, progress=progress)
    print_evaluation({"model": model.name if model else "shipped", **summary}, as_json)


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
    from mien.export.evaluation import evaluate_detector as evaluate
    from mien.runtime.detector import open_detector
    from mien.runtime.shipped import shipped_model

    found = open_detector(
        model or shipped_model("detector"), provider=provider, threads=threads, max_side=max_side, min_score=0.02
    )
    summary = evaluate(found, data, validation_only=held_out, progress=progress)
    print_evaluation({"model": model.name if model else "shipped", **summary}, as_json)


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
    groups = {k: v for k, v in summary.items() if isinstance(v, dict)}
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


@app.command(epilog="mien info landmarks.onnx")
def info(
    model: Path = typer.Argument(..., help="Model file (.onnx) or checkpoint (.pt)."),
    provider: Provider = PROVIDER,
    as_json: bool = AS_JSON,
) -> None:
    """What a model file says of itself, and what would run it here."""
    with open_runner(model, "", provider=provider, threads=1) as runner:
        row = json.loads(runner.spec.to_json()) | {
            "provider": runner.provider,
            "precision": runner.precision.value,
        }
    row["size_bytes"] = model.stat().st_size
    if as_json:
        print(json.dumps(row))
        return
    for key, value in row.items():
        print(f"{key}: {json.dumps(value) if isinstance(value, (dict, list)) else value}")


def open_pipeline(model: Path | None, detector: Path | None, *, provider: Provider, threads: int, max_side: int) -> Any:
    """Open a detector and a landmark model; the latter may be a checkpoint, which runs in eager PyTorch."""
    from mien.runtime.detector import open_detector
    from mien.runtime.pipeline import Pipeline
    from mien.runtime.shipped import shipped_model

    found = open_detector(detector or shipped_model("detector"), provider=provider, threads=threads, max_side=max_side)
    return Pipeline(found, open_runner(model, "landmarks", provider=provider, threads=threads))


def open_runner(model: Path | None, shipped: str, *, provider: Provider, threads: int) -> Any:
    """Open a model file on ONNX Runtime, or a checkpoint in eager PyTorch."""
    from mien.runtime.onnx_runner import OnnxRunner
    from mien.runtime.shipped import shipped_model

    path = model or shipped_model(shipped)
    if path.suffix == ".pt":
        with needs_torch():
            from mien.export.eager_runner import EagerRunner
        return EagerRunner(path, threads=threads)
    return OnnxRunner(path, provider=provider, threads=threads)


@contextlib.contextmanager
def needs_torch() -> Iterator[None]:
    """Turn a missing training library into the line to type."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] not in {
            "torch",
            "torchvision",
            "onnx",
            "onnxscript",
            "matplotlib",
        }:
            raise
        raise InputError(
            f"this needs {missing.name}, which is not installed; run: pip install 'mien[train]'"
        ) from missing


def progress(items: Sequence[Any], title: str) -> Iterable[Any]:
    """A progress bar on standard error."""
    return track(items, description=title, console=stderr, transient=True)


if __name__ == "__main__":
    app(prog_name="mien")
