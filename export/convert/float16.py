"""Half precision for a model file of which there is no checkpoint; ONNX Runtime's converter does the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import onnx
import onnx.inliner

from mien.export.convert.int8 import named_nodes

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""What is worth converting; only these and what lies between them is."""


def float16_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a float32 model between its first and last heavy layers.

    Normalization, decoding, inputs and outputs stay float32: box coordinates beyond 512 px have steps of half a pixel
    in float16, and TensorRT does not take a Range of halves. So does what stands within an If, a Loop or a Scan.

    Raises:
        ValueError: an output is a weight, or the graph has a cycle.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    if model.functions:  # which the converter does not look into
        model = onnx.inliner.inline_local_functions(model)
    weights_as_initializers(model)
    given = {value.name for value in model.graph.output}
    if (weight := next((t.name for t in model.graph.initializer if t.name in given), None)) is not None:
        raise ValueError(f"its output {weight} is a weight, which no layer computes; cut that output off")
    named_nodes(model)
    converted: onnx.ModelProto = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=sorted(_outside(model.graph))
    )
    _widen_for_subgraphs(converted.graph)
    drop_round_trips(converted.graph)
    sort_nodes(converted.graph)
    return converted


def stored_in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a float16 model so that a session without optimisation stores every half, as a GPU does.

    ONNX Runtime computes halves in float32 on most CPUs, and passes them on unrounded and without overflow from layer
    to layer. It cannot where two nodes that take halves, as Identity does, stand between; it would widen a single one.
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


def weights_as_initializers(model: onnx.ModelProto) -> None:
    """Turn, in place, constant nodes and inputs with a default into plain initializers, which the converter halves."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    constants = [n for n in graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"]
    for node in [n for n in constants if n.output[0] not in outputs]:
        graph.initializer.add().CopyFrom(node.attribute[0].t)
        graph.initializer[-1].name = node.output[0]
        graph.node.remove(node)
    weights = {tensor.name for tensor in graph.initializer}
    for values in (graph.input, graph.value_info):  # by the latter the converter would take them for halves, unseen
        for value in [v for v in values if v.name in weights]:
            values.remove(value)
    model.ir_version = max(model.ir_version, 4)  # the first in which an initializer need not be an input


def _outside(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes that no heavy layer feeds, or that feed none; and of those with subgraphs."""
    after = _reached(graph.node, values_used, lambda node: node.output)
    before = _reached(reversed(graph.node), lambda node: node.output, values_used)
    return {node.name for node in graph.node if subgraphs(node) or node.name not in after & before}


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


def _widen_for_subgraphs(graph: onnx.GraphProto) -> None:
    """Give subgraphs, in place, float32 copies of what they take from around them and the converter made half."""
    inputs = {value.name for value in graph.input}
    kinds = {v.name: v.type.tensor_type.elem_type for v in graph.value_info} | {
        t.name: t.data_type for t in graph.initializer
    }
    taken = {name for node in graph.node for name in set(values_used(node)) - set(node.input)} - inputs
    wide = {name: f"{name}_for_subgraphs" for name in taken if kinds.get(name) == onnx.TensorProto.FLOAT16}
    for node in graph.node:
        for part in subgraphs(node):
            for inner in part.node:
                rename_inputs(inner, wide)
    graph.node.extend(
        onnx.helper.make_node("Cast", [name], [copy], name=copy, to=onnx.TensorProto.FLOAT)
        for name, copy in sorted(wide.items())
    )


def drop_round_trips(graph: onnx.GraphProto) -> None:
    """Drop, in place, casts to float16 and straight back: the converter wraps each node that it leaves in them."""
    halved = {node.output[0]: node.input[0] for node in graph.node if casts_to(node, onnx.TensorProto.FLOAT16)}
    whole = {
        node.output[0]: halved[node.input[0]]
        for node in graph.node
        if casts_to(node, onnx.TensorProto.FLOAT) and node.input[0] in halved
    }
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        if node.output[0] in outputs and node.output[0] in whole:
            node.op_type = "Identity"  # an output keeps its name
            node.input[0] = whole[node.output[0]]
            del node.attribute[:]
        rename_inputs(node, whole)
    while unused := _unused_casts(graph, outputs):
        for node in unused:
            graph.node.remove(node)


def _unused_casts(graph: onnx.GraphProto, outputs: set[str]) -> list[onnx.NodeProto]:
    used = {name for node in graph.node for name in values_used(node)} | outputs
    return [node for node in graph.node if node.op_type == "Cast" and node.output[0] not in used]


def casts_to(node: onnx.NodeProto, *kinds: int) -> bool:
    """Whether a node is a cast to one of these types."""
    return node.op_type == "Cast" and onnx.helper.get_node_attr_value(node, "to") in kinds


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put each node behind those that it depends on, in place: the converter appends its casts at the end.

    Raises:
        ValueError: the graph has a cycle.
    """
    made = {value.name for value in [*graph.input, *graph.initializer]} | {""}
    waiting = list(graph.node)
    ordered = []
    while waiting:
        ready = [node for node in waiting if made.issuperset(values_used(node))]
        if not ready:
            raise ValueError(f"the graph has a cycle at {waiting[0].name}")
        for node in ready:
            made.update(node.output)
        ordered += ready
        waiting = [node for node in waiting if not made.issuperset(node.output)]
    del graph.node[:]
    graph.node.extend(ordered)


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Graphs that a node runs."""
    found = []
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def values_used(node: onnx.NodeProto) -> list[str]:
    """Names of a node's inputs, and of what its subgraphs take from around them."""
    names = list(node.input)
    for graph in subgraphs(node):
        own = {value.name for value in [*graph.input, *graph.initializer]}
        own |= {name for inner in graph.node for name in inner.output}
        names += [name for inner in graph.node for name in values_used(inner) if name and name not in own]
    return names


def rename_inputs(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Rename, in place and as often as it goes, what a node and its subgraphs take; ONNX allows no shadowing."""
    for i, name in enumerate(node.input):
        while name in names:
            name = node.input[i] = names[name]
    for graph in subgraphs(node):
        for inner in graph.node:
            rename_inputs(inner, names)
