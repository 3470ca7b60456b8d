"""Runs float16 files as a GPU would, rounding every intermediate value to float16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from ...runtime.backends.ort.onnx_session import NAMES
from ...runtime.models.runner import Provider
from .onnx_graph import FreshNames


def session_storing_halves(path: Path) -> Any:
    """Open a float16 file in a CPU session that rounds every half-precision value, as a GPU does."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    model = stored_in_half(onnx.load(path))
    return ort.InferenceSession(model.SerializeToString(), options, providers=[NAMES[Provider.CPU]])


def stored_in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a float16 model so that an unoptimized session stores every intermediate value in float16.

    On most CPUs ONNX Runtime computes float16 layers in float32 and passes values on without rounding or overflow. Two
    Identity nodes between layers prevent that; a single one would be widened as well.
    """
    copy = onnx.shape_inference.infer_shapes(model)
    values = [*copy.graph.value_info, *copy.graph.output]
    halves = {v.name for v in values if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}
    fresh = FreshNames(copy.graph)
    nodes = []
    for node in copy.graph.node:
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in halves:
                node.output[i], between = fresh(f"{name}_unrounded"), fresh(f"{name}_rounded")
                nodes.append(onnx.helper.make_node("Identity", [node.output[i]], [between]))
                nodes.append(onnx.helper.make_node("Identity", [between], [name]))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy
