"""`mien predict`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..backends.open_runner import open_model
from ..errors import InputError
from ..faces.pipeline import Pipeline
from ..models.model_file import ModelFile
from ..models.runner import Provider
from ..models.spec import Precision, Task
from ..outputs import check_outputs
from .console import progress_bar, require_train_extra, say
from .options import AGE_GENDER, ATTRIBUTES, BUNDLE, DETECTOR, MAX_SIDE, MODEL, PRECISION, PROVIDER

if TYPE_CHECKING:
    from ..batch.packed_pipeline import PackedPipeline
    from ..batch.parallel import ThreadPlan
    from ..values import Faces


def predict(
    inputs: list[str] = typer.Argument(..., help="Images, folders of images, or videos; with --ray also URIs."),
    json_out: str | None = typer.Option(
        None, "--json", help="File for the rows; - (default): standard output. With --ray: folder or URI."
    ),
    draw: Path | None = typer.Option(None, "--draw", help="Folder for pictures with the faces drawn."),
    view3d: Path | None = typer.Option(None, "--view3d", help="HTML page that shows the faces of pictures in 3D."),
    model: Path | None = MODEL,
    detector: Path | None = DETECTOR,
    age_gender: Path | None = AGE_GENDER,
    bundle: Path | None = BUNDLE,
    precision: Precision = PRECISION,
    attributes: bool = ATTRIBUTES,
    provider: Provider = PROVIDER,
    threads: int | None = typer.Option(
        None,
        "--threads",
        min=0,
        help="Total threads, one per picture; 0: all cores (default; 2 for one picture or video).",
    ),
    max_side: int = MAX_SIDE,
    ray: str | None = typer.Option(
        None, "--ray", help="Run on a Ray cluster: local (start one for this run), auto, or HOST:PORT."
    ),
    shard_size: int | None = typer.Option(None, "--shard-size", min=1, help="With --ray: pictures per output file."),
) -> None:
    """Find faces in pictures and videos, and write one JSON row per image or frame."""
    from ..batch.packed_pipeline import pack_pipeline
    from ..batch.parallel import plan_threads
    from ..batch.predict import several_pictures

    pipeline_options: dict[str, Any] = {
        "detector": detector,
        "age_gender": age_gender,
        "bundle": bundle,
        "precision": precision,
        "attributes": attributes or age_gender is not None,
        "provider": provider,
        "max_side": max_side,
    }
    if ray is not None:
        if draw is not None or view3d is not None:
            raise InputError("--draw and --view3d cannot be combined with --ray, which writes rows only")
        packed = pack_pipeline(model=model, **pipeline_options)
        failures = predict_on_ray(inputs, packed, address=ray, out=json_out, actors=threads or 0, shard_size=shard_size)
    else:
        if shard_size is not None:
            raise InputError("--shard-size requires --ray")
        if (uri := next((i for i in inputs if "://" in i), None)) is not None:
            raise InputError(f"{uri} can only be read with --ray; without it, give local files and folders")
        paths = [Path(i) for i in inputs]
        rows_file = None if json_out in (None, "-") else Path(str(json_out))
        check_outputs({"--json": rows_file, "--view3d": view3d}, [*paths, model, detector, age_gender, bundle])
        plan = plan_threads(threads, several=several_pictures(paths))
        rows = json_out or "-"
        file = None if model is None else ModelFile.of(model)
        if file is not None and file.spec.task is Task.CLASSIFY:
            if draw or view3d or age_gender or detector or bundle:
                raise InputError("a classifier takes no --draw, --view3d, --detector, --age-gender or --bundle")
            failures = predict_classes(paths, file, provider, plan, rows=rows)
        else:
            options = pipeline_options | {"model": file, "threads": plan.threads}
            failures = predict_faces(paths, options, plan, rows=rows, draw=draw, view3d=view3d)
    for message in failures:
        say(f"skipped: {message}", style="red")
    if failures:
        raise typer.Exit(2)


def predict_faces(
    paths: Sequence[Path],
    pipeline_options: dict[str, Any],
    plan: ThreadPlan,
    *,
    rows: str,
    draw: Path | None,
    view3d: Path | None,
) -> Sequence[str]:
    """Find the faces of local pictures and videos; return what was skipped."""
    from ..batch.predict import Predictor, check_draw_folder

    if draw is not None:
        check_draw_folder(draw, paths)
    write_view = None if view3d is None else view_writer()  # fails before the work rather than after it
    found: list[tuple[str, Faces]] = []
    collect = None if view3d is None else lambda name, faces: found.append((name, faces))
    with (
        Pipeline.load(**pipeline_options) as pipeline,
        Predictor(pipeline, json_target=rows, draw_folder=draw, workers=plan.workers, found=collect) as predictor,
        progress_bar("predict", hidden=shares_terminal(rows)) as progress,
    ):
        predictor.run(paths, progress=progress)
    if view3d is None or write_view is None:
        return predictor.failures
    if not any(len(faces) for _, faces in found):
        return [*predictor.failures, f"{view3d}: no picture has a face (videos are not shown in 3D)"]
    say(f"wrote {view3d}: {write_view(found, view3d)} face(s)")
    return predictor.failures


def view_writer() -> Callable[..., int]:
    """Return `write_view`, which needs the train extra."""
    with require_train_extra():
        from ..output.view3d import write_view
    return write_view


def predict_classes(
    paths: Sequence[Path], model: ModelFile, provider: Provider, plan: ThreadPlan, *, rows: str
) -> Sequence[str]:
    """Classify local pictures; return what was skipped."""
    from ..batch.classify import classify_pictures

    with (
        open_model(model, provider=provider, threads=plan.threads) as runner,
        progress_bar("predict", hidden=shares_terminal(rows)) as progress,
    ):
        return classify_pictures(runner, paths, json_target=rows, workers=plan.workers, progress=progress)


def predict_on_ray(
    inputs: Sequence[str], packed: PackedPipeline, *, address: str, out: str | None, actors: int, shard_size: int | None
) -> Sequence[str]:
    """Find the faces of pictures on a Ray cluster, one output file per shard; return what was skipped."""
    if out is None or out == "-":
        raise InputError("--ray writes many files at once; give a folder or URI for them with --json")
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
            packed,
            partial(process_on_ray, address=address, actors=actors),
            out=out,
            shard_size=shard_size or DEFAULT_SHARD_SIZE,
            progress=progress,
        )
    if done.resumed:
        say(f"{done.resumed} of {done.shards} shards were already done")
    return done.failures


def shares_terminal(rows: str) -> bool:
    """Check whether the rows go to a terminal, where a progress bar would interrupt them."""
    return rows == "-" and sys.stdout.isatty()
