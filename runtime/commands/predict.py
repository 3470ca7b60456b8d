"""`mien predict`: finds or classifies faces in pictures and videos."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import InputError
from ..faces.detector import DEFAULT_MAX_SIDE
from ..output.overlay import OverlayStyle
from ..output_paths import check_outputs, file_of
from ..pictures.folders import expand_patterns
from ..pipeline.pipeline_options import HIDING_MAX_SIDE, PipelineOptions
from ..wording import counted
from .console import progress_bar, say
from .option_groups import with_options
from .options import BLUR, MAX_THREADS, overlay_style, pipeline_options, refuse_face_options
from .predict_report import PredictReport
from .run_config import with_config

if TYPE_CHECKING:
    from ..batch.parallel import ThreadPlan
    from ..batch.predict import Outputs


@with_config
@with_options(overlay_style, "style", panel="Drawing")
@with_options(pipeline_options, "options", panel="Models")
def predict(
    options: PipelineOptions,
    style: OverlayStyle,
    inputs: list[str] = typer.Argument(
        ...,
        metavar="INPUT",
        envvar="MIEN_INPUTS",  # without a variable, older versions of Click do not take arguments from --config
        show_envvar=False,
        help="Pictures, folders, videos, or patterns such as 'photos/*.jpg'; with --ray also URIs.",
    ),
    json_out: str | None = typer.Option(
        None, "--json", help="Write one JSON row per picture or frame; -: standard output. With --ray: folder or URI."
    ),
    csv_out: Path | None = typer.Option(None, "--csv", help="Write one CSV line per face."),
    draw: Path | None = typer.Option(None, "--draw", help="Folder for pictures and videos with the faces drawn."),
    blur: bool = BLUR,
    crops: Path | None = typer.Option(
        None, "--save-crops", help="Folder for one picture per face, or per tracked face of a video, eyes upright."
    ),
    view3d: Path | None = typer.Option(None, "--view3d", help="HTML page that shows the faces of pictures in 3D."),
    threads: int | None = typer.Option(
        None,
        "--threads",
        min=0,
        max=MAX_THREADS,
        help="Total threads, one per picture; 0: all cores (default; fewer for one picture or video).",
    ),
    max_side: int | None = typer.Option(
        None,
        "--max-side",
        min=64,
        help="Downscale the detector's input to this longer side, px; default: 640, --blur 960.",
    ),
    ray: str | None = typer.Option(
        None, "--ray", help="Run on a Ray cluster: local (start one for this run), auto, or HOST:PORT."
    ),
    shard_size: int | None = typer.Option(None, "--shard-size", min=1, help="With --ray: pictures per output file."),
) -> None:
    """Find faces in pictures and videos, or classify them; print a summary, or write the results in many formats."""
    from ..batch.parallel import plan_threads
    from ..batch.predict import Outputs, several_pictures

    if "" in inputs:
        raise InputError("expected files and folders; found an empty name")
    if "-" in inputs and not Path("-").exists():
        raise InputError("standard input is not read; for a list of files: find … -print0 | xargs -0 mien predict")
    if options.of_frames:
        about_faces = {"--csv": csv_out, "--save-crops": crops, "--view3d": view3d, "--blur": blur, "--ray": ray}
        refuse_face_options(options, about_faces)
    if blur:
        if view3d is not None or crops is not None:
            raise InputError("--view3d and --save-crops show the faces that --blur hides; omit one of them")
        if draw is None:
            raise InputError("--blur hides the faces in drawn pictures; add --draw DIR")
        options, style = options.for_hiding(), style.over_blurred()
    max_side = max_side or (HIDING_MAX_SIDE if blur else DEFAULT_MAX_SIDE)
    pictures = (draw, crops, view3d)
    inputs = expand_patterns(inputs)
    if ray is not None:
        if csv_out is not None or any(place is not None for place in pictures):
            raise InputError("--ray writes JSON rows only; omit --csv, --draw, --save-crops and --view3d")
        failures = predict_on_ray(
            inputs, options, max_side=max_side, address=ray, out=json_out, actors=threads or 0, shard_size=shard_size
        )
    else:
        if shard_size is not None:
            raise InputError("--shard-size requires --ray")
        if (uri := next((i for i in inputs if "://" in i), None)) is not None:
            raise InputError(f"{uri} can only be read with --ray; without it, pass local files and folders")
        paths = [Path(i) for i in inputs]
        rows = Rows(json_out, csv_out, PredictReport(lines=not any((json_out, csv_out, *pictures))))
        check_outputs({"--json": file_of(json_out), "--csv": csv_out, "--view3d": view3d}, [*paths, *options.files])
        plan = plan_threads(threads, several=several_pictures(paths))
        outputs = Outputs(draw, blur, style, crops, None if view3d is None else [])
        try:
            failures = predict_files(paths, options, plan, max_side=max_side, rows=rows, outputs=outputs, view3d=view3d)
        except KeyboardInterrupt:  # which keeps the rows so far
            say_summary(rows.report)
            raise
        say_summary(rows.report)
    for message in failures:
        say(f"skipped: {message}", style="red")
    if failures:
        raise typer.Exit(2)


def say_summary(report: PredictReport) -> None:
    """Print the numbers of pictures, videos and faces, unless there were none."""
    if (summary := report.summary()) is not None:
        say(summary)


@dataclass(frozen=True, slots=True)
class Rows:
    """Targets of the rows: JSON, CSV and the report."""

    json: str | None
    csv: Path | None
    report: PredictReport

    @property
    def share_terminal(self) -> bool:
        """Whether lines go to a terminal, where a progress bar would interrupt them."""
        return (self.json == "-" or self.report.lines) and sys.stdout.isatty()


def predict_files(
    paths: Sequence[Path],
    options: PipelineOptions,
    plan: ThreadPlan,
    *,
    max_side: int,
    rows: Rows,
    outputs: Outputs,
    view3d: Path | None,
) -> Sequence[str]:
    """Find the faces or the classes of local pictures and videos; return what was skipped."""
    from ..batch.new_files import check_folder
    from ..batch.predict import Predictor
    from ..output.view3d import write_view

    for option, folder in (("--draw", outputs.draw), ("--save-crops", outputs.crops)):
        if folder is not None:
            check_folder(option, folder, paths)
    with (
        options.load_frame_classifier(threads=plan.threads)
        if options.of_frames
        else options.load(threads=plan.threads, max_side=max_side) as pipeline,
        Predictor(
            pipeline,
            json_target=rows.json,
            csv=rows.csv,
            report=rows.report,
            outputs=outputs,
            workers=plan.workers,
            reserved=[] if view3d is None else [view3d],
        ) as predictor,
        progress_bar("predict", hidden=rows.share_terminal) as progress,
    ):
        predictor.run(paths, progress=progress)
    if view3d is None or outputs.views is None:
        return predictor.failures
    if not outputs.views:
        return [*predictor.failures, f"{view3d}: no picture has a face (videos are not shown in 3D)"]
    write_view(outputs.views, view3d)
    say(f"wrote {view3d}: {counted(len(outputs.views), 'face')}")
    return predictor.failures


def predict_on_ray(
    inputs: Sequence[str],
    options: PipelineOptions,
    *,
    max_side: int,
    address: str,
    out: str | None,
    actors: int,
    shard_size: int | None,
) -> Sequence[str]:
    """Find the faces of pictures on a Ray cluster, one output file per shard; return what was skipped."""
    if out is None or out == "-":
        raise InputError("--ray writes many files; pass a folder or URI for them with --json")
    from ..batch.packed_pipeline import pack_pipeline
    from ..batch.ray_settings import configure_ray

    configure_ray(address)
    try:
        from ..batch.ray_cluster import process_on_ray
        from ..batch.shard_run import DEFAULT_SHARD_SIZE, predict_shards
    except ModuleNotFoundError as missing:
        if missing.name not in ("ray", "pyarrow", "pandas"):
            raise
        raise InputError(f"--ray needs {missing.name}, which is not installed; run: pip install 'mien[ray]'") from None

    with progress_bar("predict") as progress:
        done = predict_shards(
            inputs,
            pack_pipeline(options, max_side=max_side),
            partial(process_on_ray, address=address, actors=actors),
            out=out,
            shard_size=shard_size or DEFAULT_SHARD_SIZE,
            progress=progress,
        )
    if done.resumed:
        say(f"{done.resumed} of {done.shards} shards were already done")
    return done.failures
