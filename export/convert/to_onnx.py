"""Exports checkpoints to model files, which are written only if they pass parity and accuracy checks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import torch

from ...runtime.atomic_file import temporary_folder, write_file
from ...runtime.backends.ort.onnx_runner import OnnxRunner
from ...runtime.errors import InputError, ModelError
from ...runtime.models.input_shapes import INPUT
from ...runtime.models.runner import Provider, Runner
from ...runtime.models.spec import METADATA_KEY, ModelSpec, Precision, Task
from ..networks.build_network import build_network
from ..networks.checkpoint import load_checkpoint
from ..networks.half_precision import to_half_precision
from ..pytorch.eager_runner import open_checkpoint
from .float16 import float16_model
from .gates import Exported, Gates, check_output, measure_reference
from .int8 import check_calibration, write_int8
from .int8_options import Int8Options
from .onnx_graph import read_onnx

OPSET = 18
"""Supported since TensorRT 10.3 and ONNX Runtime 1.20."""


def export_onnx(
    source: Path,
    output: Path,
    *,
    data: Path | None = None,
    precision: Precision = Precision.FP32,
    int8: Int8Options | None = None,
) -> Exported:
    """Export a checkpoint or convert a float32 mien model, and compare the result on real pictures.

    Args:
        source: Checkpoint (.pt) or float32 model file (.onnx).
        output: Model file to write.
        data: Folder of pictures to compare on; None for the demo photograph. If it, or the calibration folder, has
            labels for the model's task, the accuracy of an fp16 or int8 file is checked as well.
        precision: Number format of the file.
        int8: Options of an int8 export; required for int8 only.

    Raises:
        ModelError: `source` is neither a checkpoint nor a model file, or it is not float32.
        InputError: There are too few pictures to calibrate on.
        CheckFailed: Outputs or accuracy differ too much, or int8 gains too little here; nothing is left behind.
        OutputError: `output` or temporary files cannot be written.
    """
    if precision is Precision.INT8 and int8 is None:
        raise InputError("int8 needs a folder of pictures: --precision int8 --calibrate DIR")
    if precision is not Precision.INT8 and int8 is not None:
        raise InputError(f"--calibrate is for int8, not for {precision.value}")
    check_output(source, output)
    with reference_runner(source) as reference, temporary_folder() as folder:
        made = folder / "model.onnx"
        if int8 is None:
            exported = _export_float(source, made, reference, precision, data)
        else:
            exported = _export_int8(source, made, reference, int8, data)
        content = made.read_bytes()
    write_file(output, content)
    return replace(exported, path=output)


def reference_runner(source: Path) -> Runner:
    """Open the model to compare an export with: a checkpoint in eager PyTorch, or a float32 model file.

    Raises:
        ModelError: `source` is neither.
    """
    if source.suffix.lower() != ".onnx":
        return open_checkpoint(source)
    runner = OnnxRunner(source, provider=Provider.CPU, threads=1)
    if runner.precision is not Precision.FP32:
        raise ModelError(f"{source} is {runner.precision.value}; convert from the float32 file or the checkpoint")
    return runner


def _export_float(source: Path, output: Path, reference: Runner, precision: Precision, data: Path | None) -> Exported:
    _write_float(source, output, reference.spec, precision)
    accuracy = None
    if data is not None and precision is not Precision.FP32:  # float32 is held to a fraction of a pixel
        accuracy = measure_reference(reference, [data])
    parities, loss = Gates(reference, data, accuracy=accuracy).check(output)
    return Exported(output, parities, loss)


def _export_int8(source: Path, output: Path, reference: Runner, options: Int8Options, data: Path | None) -> Exported:
    check_calibration(options.calibrate)  # before the slow part
    float32 = output.with_name("float32.onnx")
    _write_float(source, float32, reference.spec, Precision.FP32)
    spec = _with_precision(reference.spec, Precision.INT8)
    return write_int8(float32, output, spec, reference, options, data)


def _with_precision(spec: ModelSpec, precision: Precision) -> ModelSpec:
    return replace(spec, provenance=dict(spec.provenance) | {"precision": precision.value})


def _write_float(source: Path, output: Path, spec: ModelSpec, precision: Precision) -> None:
    spec = _with_precision(spec, precision)
    if source.suffix.lower() == ".onnx":
        model = read_onnx(source)
        if precision is Precision.FP16:
            model = float16_model(model)
            onnx.checker.check_model(model)
        onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
        onnx.save(model, str(output))
        return
    net = build_network(load_checkpoint(source))
    write_graph(to_half_precision(net) if precision is Precision.FP16 else net, spec, output)


def write_graph(net: torch.nn.Module, spec: ModelSpec, output: Path) -> None:
    """Write a network as a model file, with its spec and without local paths.

    Args:
        net: Network that takes an image batch (b, h, w, 3) uint8 BGR.
        spec: Spec of the network.
        output: File to write.

    Raises:
        ModelError: The outputs differ from those of the spec.
    """
    program = torch.onnx.export(
        net.eval(),
        (torch.zeros(2, *spec.input_size, 3, dtype=torch.uint8),),
        input_names=[INPUT],
        output_names=list(spec.outputs),
        dynamic_shapes=(_open_axes(spec.task),),
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    names = tuple(output.name for output in model.graph.output)
    if names != spec.outputs:
        raise ModelError(f"the exported graph has outputs {names}, expected {spec.outputs}")
    _clean(model)
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model)
    output.write_bytes(model.SerializeToString(deterministic=True))


def _open_axes(task: Task) -> dict[int, object]:
    """Return the dynamic axes of the input: the batch, and the height and width for a detector."""
    axes: dict[int, object] = {0: torch.export.Dim("batch", min=1, max=4096)}
    if task is Task.DETECTOR:
        for axis, name in ((1, "rows"), (2, "columns")):
            axes[axis] = 32 * torch.export.Dim(name, min=1, max=256)
    return axes


def _clean(model: onnx.ModelProto) -> None:
    """Remove stack traces and source paths from a graph, and give its dynamic axes plain names."""
    graph = model.graph
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*graph.input, *graph.output]:
        del value.metadata_props[:]
    del graph.metadata_props[:]
    for values, names in ((graph.input, ("batch", "height", "width")), (graph.output, ("batch", "cells", "cells"))):
        for value in values:
            for axis, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
                if axis.dim_param:
                    axis.dim_param = name
    del graph.value_info[:]  # it refers to the old axis names; runtimes infer it again
