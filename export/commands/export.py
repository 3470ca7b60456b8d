"""`mien export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import typer

from mien.runtime.commands.console import needs_torch, say
from mien.runtime.errors import InputError
from mien.runtime.models.spec import Precision


class Int8Preset(str, Enum):
    """For which runtime an int8 file is made."""

    CPU = "cpu"
    TENSORRT = "tensorrt"


def export(
    source: Path = typer.Argument(..., help="Checkpoint (.pt) of mien train, or a float32 model file (.onnx)."),
    output: Path = typer.Option(..., "--output", "-o", help="Model file to write.", show_default=False),
    precision: Precision = typer.Option(Precision.FP32, "--precision", help="In what numbers the file computes."),
    calibrate: Path | None = typer.Option(None, "--calibrate", help="int8: folder of pictures to calibrate on."),
    preset: Int8Preset = typer.Option(Int8Preset.CPU, "--target", help="int8: for which runtime."),
    allow_slow: bool = typer.Option(False, "--allow-slow", help="int8: keep the file also if it gains little here."),
    data: Path | None = typer.Option(None, "--data", help="Folder to compare on; default: the demo picture."),
    feed: Path | None = typer.Option(
        None, "--inputs", help="Arrays (.npz, by input name) to compare a foreign file on.", show_default=False
    ),
) -> None:
    """Export a checkpoint to ONNX. The file is only kept if it computes what PyTorch computes.

    A file without mien's metadata can be converted to fp16; it is kept if every output stays what it was.
    """
    with needs_torch():
        from mien.export.convert.foreign_float16 import convert_foreign, is_foreign
        from mien.export.convert.int8 import Preset
        from mien.export.convert.parity_gate import describe
        from mien.export.convert.to_onnx import Int8Options, export_onnx
    if precision is not Precision.INT8 and (allow_slow or calibrate is not None or preset is not Int8Preset.CPU):
        raise InputError("--calibrate, --allow-slow and --target are for --precision int8")
    if source.suffix.lower() == ".onnx" and is_foreign(source):
        foreign = convert_foreign(source, output, precision=precision, data=data, feed=feed)
        say(f"parity holds: {foreign.parity}; compared on {foreign.compared_on}")
        sizes = f"{foreign.size_bytes / 1e6:.2f} MB, from {foreign.source_bytes / 1e6:.2f}"
        say(f"{foreign.path}: {sizes}; next: mien bench {foreign.path}")
        return
    if feed is not None:
        raise InputError(
            f"--inputs is for a file without mien's metadata; {source} is compared on pictures (--data DIR)"
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
