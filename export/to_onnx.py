"""Checkpoint to ONNX model file, through a parity gate: a file that fails is not left behind."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch

from ..bench.parity import ParityGate
from ..runtime.errors import ModelError
from ..runtime.files import check_writable
from ..runtime.onnx_runner import INPUT
from ..runtime.runner import Precision
from ..runtime.spec import METADATA_KEY, ModelSpec, Task
from .checkpoint import load_checkpoint
from .eager_runner import EagerRunner
from .networks import build_network
from .parity_gate import gate

OPSET = 18
"""TensorRT 10.3 and later, and ONNX Runtime 1.20 and later, read it."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A model file that has passed its gate. parities: one for each of `GATE_BATCHES`."""

    path: Path
    spec: ModelSpec
    size_bytes: int
    parities: tuple[ParityGate, ...]


def export_onnx(source: Path, target: Path, *, data: Path | None = None) -> Exported:
    """Export a checkpoint as an fp32 model file and compare it with eager PyTorch on real pictures.

    data: a folder of labelled faces or pictures for the comparison; without it the demo photograph serves.

    Raises:
        ModelError: no checkpoint.
        CheckFailed: the file's outputs differ from PyTorch's; nothing is left behind.
        OutputError: `target` cannot be written.
    """
    checkpoint = load_checkpoint(source)
    check_writable(target)
    spec = replace(checkpoint.spec, provenance=dict(checkpoint.spec.provenance) | {"precision": Precision.FP32.value})
    partial = target.with_name(f"{target.stem}.partial.onnx")
    try:
        write_graph(build_network(checkpoint), spec, partial)
        parities = gate(partial, EagerRunner(checkpoint), data=data)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return Exported(path=target, spec=spec, size_bytes=target.stat().st_size, parities=parities)


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
