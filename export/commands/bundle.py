"""`mien bundle`: packs models for a device."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from ...bench.commands.verify import ROUNDS, THREADS
from ...bench.verify import VerifyOptions
from ...runtime.commands.console import progress_bar, require_train_extra, say
from ...runtime.commands.input_paths import existing_file, existing_folder
from ...runtime.errors import InputError
from ...runtime.models.model_file import model_spec
from ...runtime.models.spec import MODEL_FOR, Precision, Task
from ...runtime.output_paths import check_outputs


def bundle(
    output: Path = typer.Option(..., "--output", "-o", help="Bundle to write.", show_default=False),
    model: Path | None = typer.Option(
        None,
        "--model",
        callback=existing_file,
        help="Landmark checkpoint or float32 model file; default: the shipped one.",
    ),
    detector: Path | None = typer.Option(None, "--detector", callback=existing_file, help="Detector, likewise."),
    age_gender: Path | None = typer.Option(
        None, "--age-gender", callback=existing_file, help="Age and gender model, likewise."
    ),
    attributes: bool = typer.Option(True, "--attributes/--no-attributes", help="Include an age and gender model."),
    precision: list[Precision] = typer.Option(
        [Precision.FP32, Precision.FP16],
        "--precision",
        metavar="PRECISION",
        help="fp32 or fp16; repeat the option for both.",
    ),
    data: Path | None = typer.Option(
        None, "--data", callback=existing_folder, help="Folder for the golden samples; default: the demo picture."
    ),
    rounds: int = ROUNDS,
    threads: int = THREADS,
) -> None:
    """Pack models, golden samples, model cards and checksums into one verified file for a device."""
    if Precision.INT8 in precision:
        raise InputError("--precision takes fp32 or fp16: int8 needs pictures to calibrate on, see mien export")
    if not attributes and age_gender is not None:
        raise InputError("--age-gender and --no-attributes exclude each other")
    check_outputs({"--output": output}, [model, detector, age_gender, data])
    for given, task in ((model, Task.LANDMARKS), (detector, Task.DETECTOR), (age_gender, Task.AGE_GENDER)):
        if given is not None and given.suffix.lower() == ".onnx" and (found := model_spec(given).task) is not task:
            raise InputError(f"{given}: expected {MODEL_FOR[task]}, found {MODEL_FOR[found]}")
    with require_train_extra():
        from ..convert.bundle import make_bundle
    models = {"landmarks": model, "detector": detector, "age_gender": age_gender}
    if not attributes:
        del models["age_gender"]
    with progress_bar("measure") as progress:
        done = make_bundle(
            output,
            models=models,
            precisions=tuple(dict.fromkeys(precision)),
            data=data,
            options=VerifyOptions(threads=threads, rounds=rounds),
            progress=progress,
        )
    say(f"{done.path}: {done.size_bytes / 1e6:.2f} MB, {done.verdict}")
    say(f"on the device: mien verify {shlex.quote(done.path.name)} --sha256 {done.sha256}")
    print(done.sha256)
