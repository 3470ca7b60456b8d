"""`mien webcam`: tracks faces in live or recorded video."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from ..errors import InputError
from ..faces.detector import LIVE_MAX_SIDE
from ..output.overlay import OverlayStyle
from ..pipeline.pipeline_options import HIDING_MAX_SIDE, PipelineOptions
from ..wording import counted
from .console import progress_bar, say, stderr
from .option_groups import with_options
from .options import (
    BLUR,
    THREADS,
    overlay_style,
    parse_size,
    pipeline_options,
    refuse_face_options,
)
from .run_config import with_config

if TYPE_CHECKING:
    from ..live.live_run import LiveSummary


@with_config
@with_options(overlay_style, "style", panel="Drawing")
@with_options(pipeline_options, "options", panel="Models")
def webcam(
    options: PipelineOptions,
    style: OverlayStyle,
    source: str | None = typer.Argument(
        None,
        metavar="SOURCE",
        help="Camera (0, /dev/video0, csi://0), file, folder, URL, gst:PIPELINE, demo, or - for standard input.",
        show_default="0",
    ),
    source_option: str | None = typer.Option(None, "--source", help="Another spelling of the argument SOURCE."),
    show: bool | None = typer.Option(
        None, "--show/--no-show", help="Open a window (keys: q, space, s, h, m); default: unless --serve is given."
    ),
    output: Path | None = typer.Option(None, "--output", help="Write a video (.mp4, .mov, .mkv, .webm, .avi)."),
    json_out: str | None = typer.Option(None, "--json", help="Write one JSON row per frame; -: standard output."),
    csv_out: Path | None = typer.Option(None, "--csv", help="Write one CSV line per face."),
    serve: str | None = typer.Option(None, "--serve", help="Serve a live page at HOST:PORT, such as 127.0.0.1:8080."),
    token: str | None = typer.Option(
        None, "--token", envvar="MIEN_TOKEN", help="Access token for --serve; required unless bound to localhost."
    ),
    size: str | None = typer.Option(None, "--size", help="Camera resolution WIDTHxHEIGHT; required for the source -."),
    fps: float | None = typer.Option(None, "--fps", min=0.1, help="Frame rate of a camera, a folder of images, or -."),
    stats: Path | None = typer.Option(None, "--stats", help="Write the stage latencies (JSON) at the end."),
    max_frames: int | None = typer.Option(None, "--max-frames", min=1, help="Stop after N frames."),
    smooth: float = typer.Option(
        1.0, "--smooth", min=0.0, help="One-Euro cutoff at rest, Hz; lower smooths more; 0: off."
    ),
    detect_every: int | None = typer.Option(
        None, "--detect-every", min=1, help="Detect faces at full size every N frames; default: 15, with --blur 1."
    ),
    blur: bool = BLUR,
    hud: bool = typer.Option(True, "--hud/--no-hud", help="Draw frame rate and latency into the window and the video."),
    threads: int = THREADS,
    max_side: int | None = typer.Option(
        None,
        "--max-side",
        min=64,
        help="Downscale the detector's input to this longer side, px; default: 480, --blur 960.",
    ),
) -> None:
    """Track faces in live or recorded video, or label it with a classifier of your own."""
    from ..atomic_file import write_report
    from ..capture.open_capture import open_capture
    from ..credentials import mask_secrets
    from ..live.listen_socket import open_listen_socket
    from ..live.live_run import LiveRun, Tracking
    from ..live.outputs import OutputFiles, open_sinks
    from ..output.window import View, WindowSink
    from ..stage_timer import StageTimer
    from ..tracking.smoothing import OneEuro

    if options.of_frames:
        refuse_face_options(options, {"--blur": blur, "--csv": csv_out})
    source = next((given for given in (source, source_option) if given is not None), "0")
    show = serve is None if show is None else show
    if blur:
        options, style = options.for_hiding(), style.over_blurred()
    max_side = max_side or (HIDING_MAX_SIDE if blur else LIVE_MAX_SIDE)
    size_px = None if size is None else parse_size(size, "--size")
    files = OutputFiles(video=output, json=json_out, csv=csv_out, stats=stats)
    files.check([Path(source), *options.files])
    with ExitStack() as stack:
        listen_socket = None if serve is None else stack.enter_context(open_listen_socket(serve, token=token))
        smoothing = OneEuro(min_cutoff_hz=smooth) if smooth > 0 else None
        if options.of_frames:
            labels = stack.enter_context(options.load_frame_classifier(threads=threads))
            track: Tracking = partial(labels.track, smoothing=smoothing)
            runner = labels.runner
        else:
            pipeline = stack.enter_context(options.load(threads=threads, max_side=max_side))
            track = partial(pipeline.track, detect_every=detect_every, thorough=blur, smoothing=smoothing)
            runner = pipeline.landmarks
        # Recordings play in real time if they are only watched; none of their frames is dropped if they are written.
        paced = (show or serve is not None) and not files.per_frame
        capture = stack.enter_context(open_capture(source, size=size_px, fps=fps, paced=paced))
        view, timer = View(hud=hud), StageTimer()
        shown: dict[str, Any] = {"provider": runner.provider, "precision": runner.precision}
        openers = files.sink_openers(capture)
        if show:
            openers.insert(0, lambda: WindowSink(view))
        if listen_socket is not None:
            from ..live.page_server import LivePage

            openers.insert(0, lambda: LivePage(listen_socket, capture, timer, **shown, style=style))
            say(f"live page: {listen_socket.url}{'?token=…' if listen_socket.token is not None else ''}")
        run = LiveRun(capture, track, open_sinks(openers), **shown, blur=blur, style=style, view=view, timer=timer)
        hidden = capture.frame_count is None or (json_out == "-" and sys.stdout.isatty())
        with progress_bar("webcam", hidden=hidden) as progress:
            summary = run.run(max_frames=max_frames, progress=progress)
    if stats is not None:
        write_report(stats, json.dumps(summary.to_dict(), indent=2) + "\n")
    print_summary(summary, output)
    if run.ended_by is not None:
        raise typer.Exit(128 + run.ended_by)
    if summary.damage is not None:
        raise InputError(f"{summary.damage}; {counted(summary.processed, 'frame')} could be read and processed")
    if not summary.processed:
        raise InputError(f"{mask_secrets(source)} delivered no frame")


def print_summary(summary: LiveSummary, output: Path | None) -> None:
    """Print the counts of a run, and the latencies of its stages as a table."""
    say(
        f"{counted(summary.processed, 'frame')} on {summary.provider} ({summary.precision.value}), "
        f"{summary.dropped} dropped" + f", at most {counted(summary.faces, 'face')} at a time" * bool(summary.faces)
    )
    table = Table()
    for heading in ("stage", "p50 ms", "p95 ms", "p99 ms", "n"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage, latency in summary.stages.items():
        table.add_row(stage, *(f"{latency[f'p{p}_ms']:.2f}" for p in (50, 95, 99)), f"{latency['n']}")
    stderr.print(table)
    if summary.unwritten:
        say(
            f"{counted(summary.unwritten, 'result')} not written: the outputs were slower than the camera",
            style="yellow",
        )
    if output is not None and summary.processed:
        say(f"wrote {output}")
