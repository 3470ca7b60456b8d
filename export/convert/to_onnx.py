"""Checkpoint to ONNX model file, through a parity gate: a file that fails is not left behind."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch

from mien.bench.data.sample_inputs import Subset, pictures_of, sample_batch
from mien.bench.parity.parity import ParityGate
from mien.bench.timing.interleave import Candidate, measure_interleaved
from mien.bench.timing.speedup import Ratio, paired_ratio
from mien.export.convert.accuracy_gate import AccuracyLoss, Standard, check_accuracy, standard_of
from mien.export.convert.float16 import float16_model
from mien.export.convert.int8 import CALIBRATION_IMAGES, Preset, by_sensitivity, quantize
from mien.export.convert.parity_gate import check_target, gate, kept_if_passed
from mien.export.networks.build_network import build_network
from mien.export.networks.checkpoint import load_checkpoint
from mien.export.networks.half_precision import halved
from mien.export.pytorch.eager_runner import EagerRunner
from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.errors import CheckFailed, InputError, ModelError
from mien.runtime.models.input_shapes import INPUT
from mien.runtime.models.runner import Provider, Runner
from mien.runtime.models.spec import METADATA_KEY, ModelSpec, Precision, Task
from mien.runtime.values import Image

OPSET = 18
"""TensorRT 10.3 and later, and ONNX Runtime 1.20 and later, read it."""
MIN_CALIBRATION_PICTURES = 32
"""Of one picture the activations of others are cut off."""
MIN_INT8_GAIN = 1.3
"""An int8 file must be so many times as fast as float32 on this machine to be kept."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A model file that has passed its gates. parities: one for each of `GATE_BATCHES`.

    accuracy: of a file in smaller numbers, where there were labels. in_float: those of the `layers` that could be int8
    which an int8 file keeps in float. speed_up: of an int8 file over float32, where it was measured.
    """

    path: Path
    spec: ModelSpec
    size_bytes: int
    parities: tuple[ParityGate, ...]
    accuracy: AccuracyLoss | None = None
    in_float: tuple[str, ...] = ()
    layers: int = 0
    speed_up: Ratio | None = None


@dataclass(frozen=True, slots=True)
class Int8Options:
    """How to make an int8 file. calibrate: folder of pictures. allow_slow: keep it also where it gains too little.

    Every fourth picture is kept for the gate.
    """

    calibrate: Path
    preset: Preset = Preset.CPU
    allow_slow: bool = False


def export_onnx(
    source: Path,
    target: Path,
    *,
    data: Path | None = None,
    precision: Precision = Precision.FP32,
    int8: Int8Options | None = None,
) -> Exported:
    """Export a checkpoint, or convert a float32 model file of mien, and compare the result on real pictures.

    data: a folder of labelled faces or pictures for the comparison; without it the demo photograph serves. Where it, or
    the folder to calibrate on, has labels of the model's task, files in smaller numbers must also be as accurate.

    Raises:
        ModelError: no checkpoint or model file, or one that is not float32.
        InputError: int8 without enough pictures to calibrate on.
        CheckFailed: the file's outputs or its accuracy differ, or int8 gains too little here; nothing is left behind.
        OutputError: `target` cannot be written.
    """
    if precision is Precision.INT8 and int8 is None:
        raise InputError("int8 needs a folder of pictures: --precision int8 --calibrate DIR")
    if precision is not Precision.INT8 and int8 is not None:
        raise InputError(f"--calibrate is for int8, not for {precision.value}")
    check_target(source, target)
    with reference_runner(source) as reference, kept_if_passed(target) as partial:
        if int8 is None:
            _write_float(source, partial, reference.spec, precision)
            parities = gate(partial, reference, data=data)
            wanted = standard_of(reference, [data]) if data is not None and precision is not Precision.FP32 else None
            accuracy = check_accuracy(partial, precision, wanted) if wanted is not None else None
            made = Exported(target, reference.spec, 0, parities, accuracy)
        else:
            made = _write_int8(source, partial, reference, int8, data)
    return replace(made, path=target, size_bytes=target.stat().st_size)


def reference_runner(source: Path) -> Runner:
    """What an export is compared with: a checkpoint in eager PyTorch, or a float32 model file.

    Raises:
        ModelError: neither of the two.
    """
    if source.suffix.lower() != ".onnx":
        return EagerRunner(load_checkpoint(source))
    runner = OnnxRunner(source, provider=Provider.CPU, threads=1)
    if runner.precision is not Precision.FP32:
        raise ModelError(f"{source} is {runner.precision.value}; convert from the float32 file or the checkpoint")
    return runner


def _write_float(source: Path, target: Path, spec: ModelSpec, precision: Precision) -> None:
    spec = in_precision(spec, precision)
    if source.suffix.lower() == ".onnx":
        model = onnx.load(source)
        if precision is Precision.FP16:
            model = float16_model(model)
            onnx.checker.check_model(model)
        onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
        onnx.save(model, str(target))
        return
    net = build_network(load_checkpoint(source))
    write_graph(halved(net) if precision is Precision.FP16 else net, spec, target)


def _write_int8(source: Path, target: Path, reference: Runner, options: Int8Options, data: Path | None) -> Exported:
    """Quantise; as long as a gate does not hold, leave twice as many of the most sensitive layers in float."""
    if (count := pictures_of(options.calibrate)) < MIN_CALIBRATION_PICTURES:
        raise InputError(
            f"wanted {MIN_CALIBRATION_PICTURES} different pictures and more to calibrate on, found {count} in "
            f"{options.calibrate}"
        )
    images = sample_batch(reference.spec, CALIBRATION_IMAGES, data=options.calibrate, seed=0, subset=Subset.CALIBRATION)
    wanted = standard_of(reference, [folder for folder in (data, options.calibrate) if folder is not None])
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "float32.onnx"
        _write_float(source, whole, reference.spec, Precision.FP32)
        sensitive: list[str] = []
        kept = 0
        while True:
            quantize(whole, target, images, preset=options.preset, in_float=frozenset(sensitive[:kept]))
            _set_spec(target, in_precision(reference.spec, Precision.INT8))
            try:
                parities, accuracy = _judge_int8(target, reference, options.calibrate, data, wanted)
                break
            except CheckFailed as error:
                sensitive = sensitive or by_sensitivity(whole, target, images)
                most = len(sensitive) // 2
                if kept >= most:
                    raise CheckFailed(f"{error} (with {kept} of {len(sensitive)} layers left in float)") from error
                kept = min(max(1, 2 * kept), most)
        speed_up = _speed_up(whole, target, images[:8]) if options.preset is Preset.CPU else None
    if speed_up is not None and speed_up.value < MIN_INT8_GAIN and not options.allow_slow:
        raise CheckFailed(
            f"int8 is {speed_up} as fast as float32 on this machine, less than the {MIN_INT8_GAIN:g}× that would be "
            "worth its error; the file was not written (--allow-slow keeps it)"
        )
    return Exported(target, reference.spec, 0, parities, accuracy, tuple(sensitive[:kept]), len(sensitive), speed_up)


def _judge_int8(
    path: Path, reference: Runner, calibrate: Path, data: Path | None, wanted: Standard | None
) -> tuple[tuple[ParityGate, ...], AccuracyLoss | None]:
    """Both gates, on other pictures than those that calibrated the file.

    Raises:
        CheckFailed: one of them does not hold.
    """
    if data is None or data.resolve() == calibrate.resolve():
        parities = gate(path, reference, data=calibrate, subset=Subset.GATE)
    else:
        parities = gate(path, reference, data=data)
    return parities, check_accuracy(path, Precision.INT8, wanted) if wanted is not None else None


def _speed_up(whole: Path, quantised: Path, images: Image) -> Ratio:
    """Latency of the float32 file over the int8 one's, one thread, one image a call, in turns."""
    with (
        OnnxRunner(whole, provider=Provider.CPU, threads=1) as a,
        OnnxRunner(quantised, provider=Provider.CPU, threads=1) as b,
    ):
        candidates = [
            Candidate(
                name=runner.precision.value,
                model=runner.spec.task.value,
                precision=runner.precision,
                provider=runner.provider,
                batch=1,
                threads=1,
                inputs=[image[None] for image in images],
                call=runner,
            )
            for runner in (a, b)
        ]
        return paired_ratio(*measure_interleaved(candidates, rounds=20, calls_per_round=10))


def in_precision(spec: ModelSpec, precision: Precision) -> ModelSpec:
    """The same spec of a file in another precision."""
    return replace(spec, provenance=dict(spec.provenance) | {"precision": precision.value})


def _set_spec(path: Path, spec: ModelSpec) -> None:
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.save(model, str(path))


def write_graph(net: torch.nn.Module, spec: ModelSpec, path: Path) -> None:
    """Write a network's graph under the model file contract, with its spec and without paths of this machine."""
    height, width = spec.input_size
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    axes: dict[int, object] = {0: torch.export.Dim("batch", min=1, max=4096)}
    if spec.task is Task.DETECTOR:
        axes |= {
            1: 32 * torch.export.Dim("rows", min=1, max=256),
            2: 32 * torch.export.Dim("columns", min=1, max=256),
        }
    program = torch.onnx.export(
        net.eval(),
        (example,),
        input_names=[INPUT],
        output_names=list(spec.outputs),
        dynamic_shapes=(axes,),
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise ModelError("torch.onnx.export returned no program")
    model = program.model_proto
    names = tuple(output.name for output in model.graph.output)
    if names != spec.outputs:
        raise ModelError(f"the exported graph has outputs {names}, wanted {spec.outputs}")
    tidy(model)
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def tidy(model: onnx.ModelProto) -> None:
    """Drop stack traces and source paths from a graph, and give its free axes plain names."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    for value in model.graph.input:
        for axis, name in zip(value.type.tensor_type.shape.dim, ("batch", "height", "width"), strict=False):
            if axis.dim_param:
                axis.dim_param = name
    for value in model.graph.output:
        for position, axis in enumerate(value.type.tensor_type.shape.dim):
            if axis.dim_param:
                axis.dim_param = "batch" if position == 0 else "cells"
    del model.graph.value_info[:]  # their axes are formulas of names that are gone; runtimes infer them
