"""`mien engine`: builds TensorRT engines."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import typer
from rich.progress import Progress

from ..backends.trt.engine_builder import DEFAULT_WORKSPACE_MB
from ..errors import InputError, OutputError
from ..models.input_shapes import DEFAULT_BATCH, DETECTOR_MAX_SIDE
from .console import say, stderr
from .options import positive_ints


def engine(
    models: list[Path] | None = typer.Argument(
        None, metavar="MODEL", help="Model files (.onnx); default: the shipped ones."
    ),
    batch: str = typer.Option(
        ",".join(map(str, DEFAULT_BATCH)), "--batch", help="Minimum, optimum and maximum number of faces per call."
    ),
    max_side: int = typer.Option(
        DETECTOR_MAX_SIDE, "--max-side", min=32, help="For detectors: longest side of the input, px."
    ),
    workspace: int = typer.Option(DEFAULT_WORKSPACE_MB, "--workspace-mb", min=1, help="Memory limit of the build, MB."),
) -> None:
    """Build TensorRT engines on this device, and cache them for --provider tensorrt and auto.

    An engine has the precision of its model file; for FP16, export with --precision fp16 first.
    """
    from ..backends.trt.cache import open_engine
    from ..backends.trt.device import find_accelerator
    from ..backends.trt.store import check_engine_folder, engine_folder
    from ..models.input_shapes import profile_for
    from ..models.model_file import ModelFile
    from ..models.shipped import shipped_models

    sizes = positive_ints(batch, "--batch")
    if len(sizes) != 3:
        raise InputError(f"--batch expects three integers, such as 1,4,16; found {batch!r}")
    chosen = [ModelFile.of(m) for m in models or shipped_models()]
    profiles = [profile_for(m.spec, batch=(sizes[0], sizes[1], sizes[2]), max_side=max_side) for m in chosen]
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
                f"the engine of {model.name} was built, but could not be stored in {engine_folder()}; free space "
                "there, or choose another folder with MIEN_CACHE=DIR"
            )
        layers = ", ".join(f"{count} in {kind}" for kind, count in sorted(done.types.items()))
        say(f"{model.name}: {'built' if done.reason else 'already built'}; {profile}; layers: {layers}")
        print(done.path)
