"""Subgraphs of a node (the branches of If, the bodies of Loop and Scan), which see the values of the graph around."""

from __future__ import annotations

from collections.abc import Mapping

import onnx


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
