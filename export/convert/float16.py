"""Half precision for a model file without its checkpoint, using ONNX Runtime's converter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
import onnxruntime as ort

from ...runtime.backends.ort.onnx_session import NAMES
from ...runtime.models.runner import Provider
from .onnx_graph import (
    casts_to,
    named_nodes,
    rename_inputs,
    sort_nodes,
    subgraphs,
    values_used,
    weights_as_initializers,
)

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators worth converting; only the nodes from the first to the last of them become half precision."""


def float16_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a float32 model to float16 between its first and last heavy layers.

    Normalization, decoding, inputs and outputs stay float32: float16 box coordinates beyond 512 px move in steps of
    half a pixel, and TensorRT rejects a float16 Range. Nodes inside If, Loop and Scan also stay float32.

    Raises:
        ValueError: An output is a weight, or the graph has a cycle.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    if model.functions:  # the converter does not look inside them
        model = onnx.inliner.inline_local_functions(model)
    weights_as_initializers(model)
    outputs = {value.name for value in model.graph.output}
    if (weight := next((t.name for t in model.graph.initializer if t.name in outputs), None)) is not None:
        raise ValueError(f"its output {weight} is a weight that no layer computes; remove that output")
    named_nodes(model)
    converted: onnx.ModelProto = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=sorted(_outside_heavy_layers(model.graph))
    )
    _widen_for_subgraphs(converted.graph)
    _drop_round_trips(converted.graph)
    sort_nodes(converted.graph)  # the converter appends its casts at the end
    return converted


def _outside_heavy_layers(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes before all heavy layers or after all of them, and of those with subgraphs."""
    after = _reached(graph.node, values_used, lambda node: node.output)
    before = _reached(reversed(graph.node), lambda node: node.output, values_used)
    return {node.name for node in graph.node if subgraphs(node) or node.name not in after & before}


def _reached(
    nodes: Iterable[onnx.NodeProto],
    source: Callable[[onnx.NodeProto], Iterable[str]],
    target: Callable[[onnx.NodeProto], Iterable[str]],
) -> set[str]:
    """Names of the heavy nodes and of all nodes connected to one, walking in the order of `nodes`."""
    values: set[str] = set()
    found = set()
    for node in nodes:
        if node.op_type in HEAVY or values.intersection(source(node)):
            values.update(target(node))
            found.add(node.name)
    return found


def _widen_for_subgraphs(graph: onnx.GraphProto) -> None:
    """Give subgraphs float32 copies of the outer values that the converter made float16."""
    inputs = {value.name for value in graph.input}
    types = {v.name: v.type.tensor_type.elem_type for v in graph.value_info} | {
        t.name: t.data_type for t in graph.initializer
    }
    captured = {name for node in graph.node for name in set(values_used(node)) - set(node.input)} - inputs
    wide = {name: f"{name}_for_subgraphs" for name in captured if types.get(name) == onnx.TensorProto.FLOAT16}
    for node in graph.node:
        for subgraph in subgraphs(node):
            for inner in subgraph.node:
                rename_inputs(inner, wide)
    graph.node.extend(
        onnx.helper.make_node("Cast", [name], [copy], name=copy, to=onnx.TensorProto.FLOAT)
        for name, copy in sorted(wide.items())
    )


def _drop_round_trips(graph: onnx.GraphProto) -> None:
    """Drop casts to float16 and straight back, which the converter puts around every node that it leaves alone."""
    halved = {node.output[0]: node.input[0] for node in graph.node if casts_to(node, onnx.TensorProto.FLOAT16)}
    restored = {
        node.output[0]: halved[node.input[0]]
        for node in graph.node
        if casts_to(node, onnx.TensorProto.FLOAT) and node.input[0] in halved
    }
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        if node.output[0] in outputs and node.output[0] in restored:
            node.op_type = "Identity"  # an output keeps its name
            node.input[0] = restored[node.output[0]]
            del node.attribute[:]
        rename_inputs(node, restored)
    while unused := _unused_casts(graph, outputs):
        for node in unused:
            graph.node.remove(node)


def _unused_casts(graph: onnx.GraphProto, outputs: set[str]) -> list[onnx.NodeProto]:
    used = {name for node in graph.node for name in values_used(node)} | outputs
    return [node for node in graph.node if node.op_type == "Cast" and node.output[0] not in used]


def session_storing_halves(path: Path) -> Any:
    """Open a float16 file in a CPU session that rounds every half-precision value, as a GPU does."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
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
    nodes = []
    for node in copy.graph.node:
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in halves:
                node.output[i], between = f"{name}_unrounded", f"{name}_rounded"
                nodes.append(onnx.helper.make_node("Identity", [node.output[i]], [between]))
                nodes.append(onnx.helper.make_node("Identity", [between], [name]))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy
