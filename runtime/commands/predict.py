"""`mien predict`: what people type and read; the work is done in `runtime`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer

from mien.runtime.backends.open_runner import open_model
from mien.runtime.batch.packed_pipeline import Recipe
from mien.runtime.commands.console import needs_torch, progress_bar, say
from mien.runtime.commands.options import AGE_GENDER, ATTRIBUTES, BUNDLE, DETECTOR, MAX_SIDE, MODEL, PRECISION, PROVIDER
from mien.runtime.errors import InputError
from mien.runtime.faces.pipeline import Pipeline
from mien.runtime.models.model_file import ModelFile
from mien.runtime.models.runner import Provider
from mien.runtime.models.spec import Precision, Task


def predict(
    inputs: list[str] = typer.Argument(..., help="Images, folders of images, or videos; with --ray URIs too."),
    json_out: str | None = typer.Option(
        None, "--json", help="File for the rows; - is standard output (the default). With --ray a folder or URI."
    ),
    draw: Path | None = typer.Option(None, "--draw", help="Folder for the pictures with the faces drawn."),
    view3d: Path | None = typer.Option(None, "--view3d", help="Page (.html) with the pictures' faces, to be turned."),
    model: Path | None = MODEL,
    detector: Path | None = DETECTOR,
    age_gender: Path | None = AGE_GENDER,
    bundle: Path | None = BUNDLE,
    precision: Precision = PRECISION,
    attributes: bool = ATTRIBUTES,
    provider: Provider = PROVIDER,
    threads: int | None = typer.Option(
        None, "--threads", min=0, help="Threads in all, a picture each; 0: all cores (default; one picture, video: 2)."
    ),
    max_side: int = MAX_SIDE,
    ray: str | None = typer.Option(
        None, "--ray", help="Run on a Ray cluster: local (one here, for this run), auto or HOST:PORT."
    ),
    shard_size: int | None = typer.Option(None, "--shard-size", min=1, help="With --ray: pictures a file of rows."),
) -> None:
    """Find faces in pictures and videos: a JSON row for each image or frame."""
    from mien.runtime.batch.classify import classify_pictures
    from mien.runtime.batch.packed_pipeline import make_recipe
    from mien.runtime.batch.parallel import share_threads
    from mien.runtime.batch.predict import Predictor, check_draw_folder, several_pictures
    from mien.runtime.files import check_writable

    if ray is not None:
        if draw is not None or view3d is not None:
            raise InputError("--draw and --view3d are for runs without --ray, which writes rows only")
        recipe = make_recipe(
            model=model,
            detector=detector,
            age_gender=age_gender,
            bundle=bundle,
            precision=precision,
            attributes=attributes or age_gender is not None,
            provider=provider,
            max_side=max_side,
        )
        predict_on_ray(inputs, recipe, address=ray, out=json_out, actors=threads or 0, shard_size=shard_size)
        return
    if shard_size is not None:
        raise InputError("--shard-size is for runs with --ray")
    if (uri := next((i for i in inputs if "://" in i), None)) is not None:
        raise InputError(f"{uri} is read by runs with --ray; without it, give files and folders of this machine")
    paths = [Path(i) for i in inputs]
    if draw is not None:
        check_draw_folder(draw, paths)
    if view3d is not None:
        check_writable(view3d)
        with needs_torch():
            import plotly  # type: ignore[import-untyped]  # noqa: F401 - told before the work, not after
    target = json_out or "-"
    share = share_threads(threads, several=several_pictures(paths))
    landmarks = None if model is None else ModelFile.of(model)
    if landmarks is not None and landmarks.spec.task is Task.CLASSIFY:
        if draw or view3d or age_gender or detector or bundle:
            raise InputError("--draw, --view3d, --detector, --age-gender and --bundle are for faces, not a classifier")
        with (
            open_model(landmarks, provider=provider, threads=share.threads) as runner,
            progress_bar("predict", hidden=shares_screen(target)) as show,
        ):
            failures = classify_pictures(runner, paths, json_target=target, workers=share.workers, progress=show)
        report_failures(failures)
        return
    found: list[tuple[str, Any]] = []
    collect = None if view3d is None else lambda name, faces: found.append((name, faces))
    with (
        Pipeline.load(
            model=landmarks,
            detector=detector,
            age_gender=age_gender,
            bundle=bundle,
            precision=precision,
            attributes=attributes or age_gender is not None,
            provider=provider,
            threads=share.threads,
            max_side=max_side,
        ) as pipeline,
        Predictor(pipeline, json_target=target, draw_folder=draw, workers=share.workers, found=collect) as predictor,
        progress_bar("predict", hidden=shares_screen(target)) as show,
    ):
        predictor.run(paths, progress=show)
    if view3d is not None and any(len(faces) for _, faces in found):
        from mien.runtime.output.view3d import write_view

        say(f"wrote {view3d}: {write_view(found, view3d)} face(s)")
    elif view3d is not None:
        predictor.failures.append(f"{view3d}: no face was found in a picture (videos are not shown in 3D)")
    report_failures(predictor.failures)


def predict_on_ray(
    inputs: Sequence[str], recipe: Recipe, *, address: str, out: str | None, actors: int, shard_size: int | None
) -> None:
    """Write the rows of pictures into a folder, a file a shard, by the processes of a Ray cluster."""
    if out is None or out == "-":
        raise InputError("--ray writes many files at once; give a folder or URI for them with --json")
    from mien.runtime.batch.ray_settings import settle_ray

    settle_ray(address)
    try:
        from mien.runtime.batch.ray_cluster import do_on_ray
        from mien.runtime.batch.shard_run import DEFAULT_SHARD_SIZE, predict_shards
    except ModuleNotFoundError as missing:
        if missing.name not in ("ray", "pyarrow", "pandas"):
            raise
        raise InputError(f"--ray needs {missing.name}, which is not installed; run: pip install 'mien[ray]'") from None

    with progress_bar("predict") as show:
        done = predict_shards(
            inputs,
            recipe,
            partial(do_on_ray, address=address, actors=actors),
            out=out,
            shard_size=shard_size or DEFAULT_SHARD_SIZE,
            progress=show,
        )
    if done.resumed:
        say(f"{done.resumed} of {done.shards} shards were done before")
    report_failures(done.failures)


def shares_screen(json_target: str) -> bool:
    """Tell whether the rows go to a terminal, where a progress bar would be in their way."""
    return json_target == "-" and sys.stdout.isatty()


def report_failures(failures: Sequence[str]) -> None:
    """Name what was skipped, and end with exit code 2 if anything was."""
    for message in failures:
        say(f"skipped: {message}", style="red")
    if failures:
        raise typer.Exit(2)
