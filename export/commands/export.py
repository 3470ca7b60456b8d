"""`mien export`: writes model files."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ...runtime.commands.console import require_train_extra, say
from ...runtime.commands.input_paths import existing_file, existing_folder
from ...runtime.commands.run_config import with_config
from ...runtime.errors import InputError
from ...runtime.models.spec import Precision
from ...runtime.output_paths import check_outputs
from ..convert.int8_options import Int8Options, TargetRuntime

if TYPE_CHECKING:
    from ..convert.gates import Exported


@with_config
def export(
    source: Path = typer.Argument(
        ..., metavar="MODEL", help="Checkpoint (.pt) from mien train, or a float32 model file (.onnx)."
    ),
    output: Path = typer.Option(..., "--output", "-o", help="Model file to write.", show_default=False),
    precision: Precision = typer.Option(Precision.FP32, "--precision", help="Number format of the file."),
    calibrate: Path | None = typer.Option(
        None, "--calibrate", callback=existing_folder, help="int8: folder of pictures to calibrate on."
    ),
    target: TargetRuntime = typer.Option(TargetRuntime.CPU, "--target", help="int8: runtime to quantize for."),
    allow_slow: bool = typer.Option(False, "--allow-slow", help="int8: keep the file even if it is hardly faster."),
    data: Path | None = typer.Option(
        None, "--data", callback=existing_folder, help="Folder of pictures to compare on; default: the demo picture."
    ),
    inputs: Path | None = typer.Option(
        None,
        "--inputs",
        callback=existing_file,
        help="Arrays (.npz, keyed by input name) to compare a foreign model on.",
        show_default=False,
    ),
) -> None:
    """Export a checkpoint to ONNX. The file is written only if its outputs agree with PyTorch's.

    A file without mien's metadata can be converted to fp16; it is written only if all outputs stay the same.
    """
    with require_train_extra():
        from ..convert.foreign_float16 import convert_foreign, is_foreign
        from ..convert.to_onnx import export_onnx
    if precision is not Precision.INT8 and (allow_slow or calibrate is not None or target is not TargetRuntime.CPU):
        raise InputError("--calibrate, --allow-slow and --target are for --precision int8")
    check_outputs({"--output": output}, [source, calibrate, data, inputs])
    if source.suffix.lower() == ".onnx" and is_foreign(source):
        foreign = convert_foreign(source, output, precision=precision, data=data, inputs=inputs)
        say(f"parity check passed: {foreign.parity}; compared on {foreign.compared_on}")
        sizes = f"{foreign.size_bytes / 1e6:.2f} MB, from {foreign.source_bytes / 1e6:.2f}"
        say(f"{foreign.path}: {sizes}; next: mien bench {shlex.quote(str(foreign.path))}")
        return
    if inputs is not None:
        raise InputError(
            f"--inputs is for a file without mien's metadata; {source} is compared on pictures (--data DIR)"
        )
    int8 = Int8Options(calibrate, target, allow_slow) if calibrate is not None else None
    _report(export_onnx(source, output, data=data, precision=precision, int8=int8), precision)


def _report(exported: Exported, precision: Precision) -> None:
    say(f"parity check passed: {exported.describe_parity()}")
    if exported.accuracy is not None:
        say(f"accuracy check passed: {exported.accuracy}")
    elif precision is not Precision.FP32:
        say("accuracy was not measured; it needs labels for this model's task (--data DIR)", style="yellow")
    if exported.float_layers:
        count = f"left {len(exported.float_layers)} of {exported.layers} layers, the most sensitive, in float"
        say(f"{count}: {', '.join(exported.float_layers)}")
    if exported.speed_up is not None:
        slow = exported.speed_up.value < 1
        say(f"{exported.speed_up} as fast as float32 on this machine, one thread", style="yellow" if slow else "")
    advice = f"mien predict photo.jpg --model {shlex.quote(str(exported.path))}"
    say(f"{exported.path}: {exported.size_bytes / 1e6:.2f} MB; next: {advice}")
