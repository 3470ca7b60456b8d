"""`mien webcam`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from mien.runtime.commands.console import say, stderr
from mien.runtime.commands.options import AGE_GENDER, ATTRIBUTES, BUNDLE, DETECTOR, MODEL, PRECISION, PROVIDER, THREADS
from mien.runtime.errors import InputError, MienError
from mien.runtime.faces.detector import LIVE_MAX_SIDE
from mien.runtime.faces.pipeline import Pipeline
from mien.runtime.models.runner import Provider
from mien.runtime.models.spec import Precision


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
    from mien.runtime.capture.capture import open_capture
    from mien.runtime.faces.smoothing import OneEuro
    from mien.runtime.faces.stage_timer import StageTimer
    from mien.runtime.files import check_writable
    from mien.runtime.live.listen_socket import open_listen_socket
    from mien.runtime.live.live_run import LiveRun
    from mien.runtime.output.rows import CsvSink, JsonLinesSink
    from mien.runtime.output.sinks import BackgroundSink, Sink, close_all
    from mien.runtime.output.video_file import VideoSink
    from mien.runtime.output.window import View, WindowSink

    show = serve is None if show is None else show
    refuse_shared_files(json_out, output, csv_out, stats)
    if stats is not None:
        check_writable(stats)
    with (
        contextlib.nullcontext() if serve is None else open_listen_socket(serve, token=token) as listen_socket,
        Pipeline.load(
            model=model,
            detector=detector,
            age_gender=age_gender,
            bundle=bundle,
            precision=precision,
            attributes=attributes or age_gender is not None,
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
        view, clock = View(), StageTimer()
        try:
            if listen_socket is not None:
                from mien.runtime.live.page_server import LivePage

                sinks.append(LivePage(listen_socket, capture, clock, provider=pipeline.landmarks.provider))
                say(f"live page: {listen_socket.url}{'?token=…' if listen_socket.token is not None else ''}")
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
        stats.write_text(json.dumps(summary.to_dict(), indent=2) + "\n", encoding="utf-8")
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
