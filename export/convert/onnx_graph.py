"""Helpers for editing ONNX graphs in place: names, order, weights, and the graphs nested inside nodes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx


def named_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Name every unnamed node, in place; the converters identify nodes by name."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return model


def weights_as_initializers(model: onnx.ModelProto) -> None:
    """Turn constant nodes and inputs with a default value into plain initializers, in place."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    constants = [n for n in graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"]
    for node in [n for n in constants if n.output[0] not in outputs]:
        graph.initializer.add().CopyFrom(node.attribute[0].t)
        graph.initializer[-1].name = node.output[0]
        graph.node.remove(node)
    weights = {tensor.name for tensor in graph.initializer}
    for values in (graph.input, graph.value_info):  # the fp16 converter trusts value_info over the weight itself
        for value in [v for v in values if v.name in weights]:
            values.remove(value)
    model.ir_version = max(model.ir_version, 4)  # the first version in which an initializer need not be an input


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Sort nodes topologically, in place and stably.

    Raises:
        ValueError: The graph has a cycle.
    """
    available = {value.name for value in [*graph.input, *graph.initializer]} | {""}
    waiting = list(graph.node)
    ordered = []
    while waiting:
        ready = [node for node in waiting if available.issuperset(values_used(node))]
        if not ready:
            raise ValueError(f"the graph has a cycle at {waiting[0].name}")
        for node in ready:
            available.update(node.output)
        ordered += ready
        waiting = [node for node in waiting if not available.issuperset(node.output)]
    del graph.node[:]
    graph.node.extend(ordered)


def casts_to(node: onnx.NodeProto, *types: int) -> bool:
    """Return True if a node is a cast to one of these element types."""
    return node.op_type == "Cast" and onnx.helper.get_node_attr_value(node, "to") in types


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """List the graphs nested in a node's attributes (If, Loop, Scan)."""
    found = []
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def values_used(node: onnx.NodeProto) -> list[str]:
    """List the names of a node's inputs and of the outer values that its subgraphs capture."""
    names = list(node.input)
    for graph in subgraphs(node):
        own = {value.name for value in [*graph.input, *graph.initializer]}
        own |= {name for inner in graph.node for name in inner.output}
        names += [name for inner in graph.node for name in values_used(inner) if name and name not in own]
    return names


def rename_inputs(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Rename the inputs of a node and its subgraphs, in place, following chains of renames.

    ONNX forbids shadowing, so a name means the same value inside a subgraph as outside it.
    """
    for i, name in enumerate(node.input):
        while name in names:
            name = node.input[i] = names[name]
    for graph in subgraphs(node):
        for inner in graph.node:
            rename_inputs(inner, names)
