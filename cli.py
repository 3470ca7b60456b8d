"""The command line: the only place where training, export, bench and runtime meet.

Results go to standard output, everything else to standard error. Exit codes: 0 ok, 1 a check failed, 2 misuse,
128 + n ended by signal n (130: Ctrl-C). Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

try:
    from mien.export import bundle_commands
    from mien.export.bench_commands import bench_app, numbers
    from mien.export.cli_options import (
        AGE_GENDER,
        AS_JSON,
        ATTRIBUTES,
        BUNDLE,
        DETECTOR,
        MODEL,
        PRECISION,
        PROVIDER,
        THREADS,
    )
    from mien.export.evaluate_commands import evaluate_app
    from mien.export.messages import needs_torch, say, stderr
    from mien.export.opening import open_pipeline, open_runner
    from mien.export.predict_commands import predict
    from mien.export.train_commands import train_app
    from mien.runtime.detector import LIVE_MAX_SIDE
    from mien.runtime.engine_build import DEFAULT_BATCH, DEFAULT_WORKSPACE_MB, DETECTOR_MAX_SIDE
    from mien.runtime.errors import CheckFailed, InputError, MienError, OutputError
    from mien.runtime.runner import Precision, Provider
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
from rich.progress import Progress
from rich.table import Table
from typer.core import TyperGroup


class ErrorsInOneLine(TyperGroup):
    """Turns mien's errors and Ctrl-C into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except MienError as error:
            say(f"error: {error}", style="red")
            raise typer.Exit(1 if isinstance(error, CheckFailed) else 2) from error
        except MemoryError as error:
            say(f"error: not enough memory {error}".rstrip(), style="red")
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(130) from None


class Int8Preset(str, Enum):
    """For which runtime an int8 file is made."""

    CPU = "cpu"
    TENSORRT = "tensorrt"


app = typer.Typer(
    name="mien",
    cls=ErrorsInOneLine,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Face landmarks at the edge: train in PyTorch, export to ONNX, run and measure on ONNX Runtime.",
    epilog="Start with: [bold]mien webcam --source demo[/bold]",
)
app.add_typer(train_app, name="train")
app.add_typer(bench_app, name="bench")
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


@app.command(
    epilog="mien export runs/landmarks/best.pt -o landmarks.onnx --data landmarks68; "
    "mien export anybody.onnx -o anybody16.onnx --precision fp16"
)
def export(
    source: Path = typer.Argument(..., help="Checkpoint (.pt) of mien train, or a float32 model file (.onnx)."),
    output: Path = typer.Option(..., "--output", "-o", help="Model file to write.", show_default=False),
    precision: Precision = typer.Option(Precision.FP32, "--precision", help="In what numbers the file computes."),
    calibrate: Path | None = typer.Option(None, "--calibrate", help="int8: folder of pictures to calibrate on."),
    preset: Int8Preset = typer.Option(Int8Preset.CPU, "--preset", help="int8: for which runtime."),
    allow_slow: bool = typer.Option(False, "--allow-slow", help="int8: keep the file also if it gains little here."),
    data: Path | None = typer.Option(None, "--data", help="Folder to compare on; default: the demo picture."),
    feed: Path | None = typer.Option(
        None, "--input", help="Arrays (.npz, by input name) to compare a foreign file on.", show_default=False
    ),
) -> None:
    """Export a checkpoint to ONNX. The file is only kept if it computes what PyTorch computes.

    A file without mien's metadata can be converted to fp16; it is kept if every output stays what it was.
    """
    with needs_torch():
        from mien.export.foreign_float16 import convert_foreign, is_foreign
        from mien.export.parity_gate import describe
        from mien.export.quantise import Preset
        from mien.export.to_onnx import Int8Options, export_onnx
    if precision is not Precision.INT8 and (allow_slow or calibrate is not None or preset is not Int8Preset.CPU):
        raise InputError("--calibrate, --allow-slow and --preset are for --precision int8")
    if source.suffix.lower() == ".onnx" and is_foreign(source):
        foreign = convert_foreign(source, output, precision=precision, data=data, feed=feed)
        say(f"parity holds: {foreign.parity}; compared on {foreign.compared_on}")
        sizes = f"{foreign.size_bytes / 1e6:.2f} MB, from {foreign.source_bytes / 1e6:.2f}"
        say(f"{foreign.path}: {sizes}; next: mien bench {foreign.path}")
        return
    if feed is not None:
        raise InputError(
            f"--input is for a file without mien's metadata; {source} is compared on pictures (--data DIR)"
        )
    int8 = Int8Options(calibrate, Preset(preset.value), allow_slow) if calibrate is not None else None
    done = export_onnx(source, output, data=data, precision=precision, int8=int8)
    say(f"parity holds: {describe(done.parities)}")
    if done.accuracy is not None:
        say(f"accuracy holds: {done.accuracy}")
    elif precision is not Precision.FP32:
        say("accuracy was not measured: no folder with held-out labels for this model (--data DIR)", style="yellow")
    if done.in_float:
        count = f"{len(done.in_float)} of {done.layers} layers left in float, as they lose most"
        say(f"{count}: {', '.join(done.in_float)}")
    if done.speed_up is not None:
        slow = done.speed_up.value < 1
        say(f"{done.speed_up} as fast as float32 on this machine, one thread", style="yellow" if slow else "")
    say(f"{done.path}: {done.size_bytes / 1e6:.2f} MB; next: mien bench {done.path}")


@app.command(epilog="mien engine landmarks.onnx --batch 1,4,16")
def engine(
    models: list[Path] | None = typer.Argument(None, help="Model files (.onnx); none: the shipped ones."),
    batch: str = typer.Option(
        ",".join(map(str, DEFAULT_BATCH)), "--batch", help="Smallest, usual and largest number of faces in a call."
    ),
    max_side: int = typer.Option(
        DETECTOR_MAX_SIDE, "--max-side", min=32, help="Detectors: longest side of a picture, px."
    ),
    workspace: int = typer.Option(DEFAULT_WORKSPACE_MB, "--workspace", min=1, help="Memory for the build, MB."),
) -> None:
    """Build TensorRT engines on the device that will run them, and keep them for --provider tensorrt and auto.

    An engine computes in the precision of its file: export with --precision fp16 first for FP16.
    """
    from mien.runtime.accelerator import find_accelerator
    from mien.runtime.engine_build import profile_for
    from mien.runtime.engine_cache import open_engine
    from mien.runtime.engine_files import check_engine_folder, engine_folder
    from mien.runtime.onnx_session import model_spec
    from mien.runtime.shipped import shipped_models

    three = numbers(batch, "--batch")
    if len(three) != 3:
        raise InputError(f"--batch wants three numbers such as 1,4,16; found {batch!r}")
    chosen = models or shipped_models()
    profiles = [profile_for(model_spec(m), batch=(three[0], three[1], three[2]), max_side=max_side) for m in chosen]
    accelerator = find_accelerator()
    check_engine_folder(engine_folder())
    for model, profile in zip(chosen, profiles, strict=True):
        with Progress(console=stderr, transient=True) as bar:
            show = partial(bar.update, bar.add_task(model.name, total=1.0))
            done = open_engine(
                model,
                accelerator,
                profile=profile,
                workspace_mb=workspace,
                progress=lambda what, fraction, show=show: show(completed=fraction, description=what),  # type: ignore[misc]
            )
        if done.path is None:
            raise OutputError(
                f"the engine of {model.name} was built, but could not be kept in {engine_folder()}; make room there, "
                "or choose another place with MIEN_CACHE=DIR"
            )
        layers = ", ".join(f"{count} in {kind}" for kind, count in sorted(done.types.items()))
        say(f"{model.name}: {'built' if done.reason else 'was built already'}; {profile}; layers: {layers}")
        print(done.path)


app.command(
    epilog="mien predict photo.jpg --json - --draw out/; mien predict s3://b/photos --ray auto --json s3://b/rows"
)(predict)


@app.command(epilog="mien webcam --source clip.mp4 --output faces.mp4 --no-show; mien webcam --serve 127.0.0.1:8080")
def webcam(
    source: str = typer.Option("0", "--source", help="0, /dev/video0, FILE, folder, URL, csi://0, gst:…, demo, -"),
    show: bool | None = typer.Option(
        None, "--show/--no-show", help="Open a window (keys: q, space, s, h, m); default: unless --serve."
    ),
    output: Path | None = typer.Option(None, "--output", help="Video file to write (.mp4, .avi, .mkv, .webm)."),
    json_out: str | None = typer.Option(None, "--json", help="File for JSON lines; - is standard output."),
    csv_out: Path | None = typer.Option(None, "--csv", help="File for a line a face (CSV)."),
    serve: str | None = typer.Option(None, "--serve", help="HOST:PORT of a live page, such as 127.0.0.1:8080."),
    token: str | None = typer.Option(
        None, "--token", envvar="MIEN_TOKEN", help="What --serve asks of browsers; a must beyond this machine."
    ),
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
    age_gender: Path | None = AGE_GENDER,
    bundle: Path | None = BUNDLE,
    precision: Precision = PRECISION,
    attributes: bool = ATTRIBUTES,
    provider: Provider = PROVIDER,
    threads: int = THREADS,
    max_side: int = typer.Option(
        LIVE_MAX_SIDE, "--max-side", min=64, help="Detect on frames reduced to this longer side, px."
    ),
) -> None:
    """Follow faces in a live or recorded video."""
    from mien.runtime.capture import open_capture
    from mien.runtime.files import check_writable
    from mien.runtime.listener import open_listener
    from mien.runtime.live import LiveRun, close_all
    from mien.runtime.row_sinks import CsvSink, JsonLinesSink
    from mien.runtime.sinks import BackgroundSink, Sink, VideoSink, View, WindowSink
    from mien.runtime.smoothing import OneEuro
    from mien.runtime.stages import StageClock

    show = serve is None if show is None else show
    refuse_shared_files(json_out, output, csv_out, stats)
    if stats is not None:
        check_writable(stats)
    with (
        contextlib.nullcontext() if serve is None else open_listener(serve, token=token) as listener,
        open_pipeline(
            model,
            detector,
            age_gender,
            bundle=bundle,
            precision=precision,
            attributes=attributes,
            provider=provider,
            threads=threads,
            max_side=max_side,
        ) as pipeline,
        # What is only looked at plays at its own pace; what is written loses no frame.
        open_capture(
            source,
            size=size_in_px(size),
            fps=fps,
            paced=(show or serve is not None) and output is None and json_out is None and csv_out is None,
        ) as capture,
    ):
        sinks: list[Sink] = []
        view, clock = View(), StageClock()
        try:
            if listener is not None:
                from mien.runtime.live_page import LivePage

                sinks.append(LivePage(listener, capture, clock, provider=pipeline.landmarks.provider))
                say(f"live page: {listener.url}{'?token=…' if listener.token is not None else ''}")
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
        run = LiveRun(capture, pipeline, sinks, detect_every=detect_every, smoothing=smoothing, view=view, clock=clock)
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


def refuse_shared_files(json_out: str | None, *others: Path | None) -> None:
    """Two outputs cannot have one file, and only JSON rows can go to standard output."""
    names = [str(path) for path in others if path is not None]
    if "-" in names:
        raise InputError("only --json takes -, for standard output")
    if json_out not in (None, "-"):
        names.append(str(json_out))
    if len(set(names)) < len(names):
        raise InputError(f"two outputs have one file: {', '.join(names)}")


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


@app.command(epilog="mien info landmarks.onnx")
def info(
    model: Path = typer.Argument(..., help="Model file (.onnx) or checkpoint (.pt)."),
    provider: Provider = PROVIDER,
    as_json: bool = AS_JSON,
) -> None:
    """What a model file says of itself, and what runs it here, node by node."""
    with open_runner(model, provider=provider, threads=1) as runner:
        row = json.loads(runner.spec.to_json()) | {
            "provider": runner.provider,
            "precision": runner.precision.value,
            "nodes": nodes_of(model, runner),
        }
    row["size_bytes"] = model.stat().st_size
    if as_json:
        print(json.dumps(row))
        return
    for key, value in row.items():
        print(f"{key}: {json.dumps(value) if isinstance(value, (dict, list)) else value}")


def nodes_of(model: Path, runner: Any) -> dict[str, int] | None:
    """How many nodes of a model run on what; those that fell to the CPU are named on standard error."""
    from mien.runtime.engine_runner import EngineRunner
    from mien.runtime.onnx_session import NAMES, placement

    if isinstance(runner, EngineRunner):
        return {f"TensorRT, {kind.lower()}": count for kind, count in runner.layer_types.items()}
    if model.suffix.lower() == ".pt":
        return None
    wanted = Provider(runner.provider)
    placed = placement(model, provider=wanted)
    if placed is None:
        say("this onnxruntime is too old to tell which nodes run where")
        return None
    for name in [n for ep, names in placed.items() if ep != NAMES[wanted] for n in names]:
        say(f"not on {wanted.value}: {name}", style="yellow")
    return {ep: len(names) for ep, names in placed.items()}


@app.command(epilog="mien doctor --json")
def doctor(as_json: bool = AS_JSON) -> None:
    """Look at this machine: what is there, what really runs, and how to mend the rest. Changes nothing."""
    from mien.runtime.doctor import examine, to_row
    from mien.runtime.findings import Status

    marks = {Status.OK: ("✓", "green"), Status.NOTE: ("·", ""), Status.PROBLEM: ("✗", "red")}
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            mark, style = marks[finding.status]
            out = Console(soft_wrap=True)
            out.print(f"{mark} {finding.name}: {finding.found}", style=style, markup=False, highlight=False)
            if finding.fix:
                out.print(f"    → {finding.fix}", markup=False, highlight=False)
    if as_json:
        print(json.dumps([to_row(finding) for finding in findings]))
    if any(finding.status is Status.PROBLEM for finding in findings):
        raise typer.Exit(1)


app.command(epilog="mien bundle -o face.mien")(bundle_commands.bundle)
app.command(epilog="mien verify face.mien --json")(bundle_commands.verify)


if __name__ == "__main__":
    app(prog_name="mien")
