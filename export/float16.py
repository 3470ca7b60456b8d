"""Half precision for a model file of which there is no checkpoint; ONNX Runtime's converter does the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx

from .quantise import named_nodes

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""What is worth converting; only these and what lies between them is."""


def float16_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a float32 model between its first and last heavy layers.

    Normalisation, decoding, inputs and outputs stay float32: box coordinates beyond 512 px have steps of half a pixel
    in float16, and TensorRT does not take a Range of halves.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    named_nodes(model)
    converted: onnx.ModelProto = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=sorted(_outside(model.graph))
    )
    drop_round_trips(converted.graph)
    sort_nodes(converted.graph)
    onnx.checker.check_model(converted)
    return converted


def _outside(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes that no heavy layer feeds, or that feed none."""
    after = _reached(graph.node, lambda node: node.input, lambda node: node.output)
    before = _reached(reversed(graph.node), lambda node: node.output, lambda node: node.input)
    return {node.name for node in graph.node} - (after & before)


def _reached(
    nodes: Iterable[onnx.NodeProto],
    source: Callable[[onnx.NodeProto], Iterable[str]],
    target: Callable[[onnx.NodeProto], Iterable[str]],
) -> set[str]:
    """Names of the heavy nodes and of those that a value passes on to from one, in the order of `nodes`."""
    values: set[str] = set()
    found = set()
    for node in nodes:
        if node.op_type in HEAVY or values.intersection(source(node)):
            values.update(target(node))
            found.add(node.name)
    return found


def drop_round_trips(graph: onnx.GraphProto) -> None:
    """Drop, in place, casts to float16 and straight back: the converter wraps each node that it leaves in them."""
    halved = {node.output[0]: node.input[0] for node in graph.node if _casts_to(node, onnx.TensorProto.FLOAT16)}
    whole = {
        node.output[0]: halved[node.input[0]]
        for node in graph.node
        if _casts_to(node, onnx.TensorProto.FLOAT) and node.input[0] in halved
    }
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        if node.output[0] in outputs and node.output[0] in whole:
            node.op_type = "Identity"  # an output keeps its name
            node.input[0] = whole[node.output[0]]
            del node.attribute[:]
        for i, name in enumerate(node.input):
            while name in whole:
                name = node.input[i] = whole[name]
    while unused := _unused_casts(graph, outputs):
        for node in unused:
            graph.node.remove(node)


def _unused_casts(graph: onnx.GraphProto, outputs: set[str]) -> list[onnx.NodeProto]:
    used = {name for node in graph.node for name in node.input} | outputs
    return [node for node in graph.node if node.op_type == "Cast" and node.output[0] not in used]


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == kind


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put each node behind those that it depends on, in place: the converter appends its casts at the end.

    Raises:
        ValueError: the graph has a cycle.
    """
    made = {value.name for value in [*graph.input, *graph.initializer]} | {""}
    waiting = list(graph.node)
    ordered = []
    while waiting:
        ready = [node for node in waiting if made.issuperset(node.input)]
        if not ready:
            raise ValueError(f"the graph has a cycle at {waiting[0].name}")
        for node in ready:
            made.update(node.output)
        ordered += ready
        waiting = [node for node in waiting if not made.issuperset(node.output)]
    del graph.node[:]
    graph.node.extend(ordered)
