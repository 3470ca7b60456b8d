"""Tells which nodes of a graph int8 would slow down or spoil."""

from __future__ import annotations

import onnx

from .onnx_graph import values_used

LAYERS = ("Conv", "Gemm")
"""Operators of the layers."""


def decoding_nodes(graph: onnx.GraphProto) -> set[str]:
    """Find the nodes after the last layers, which turn their outputs into boxes, points or ages.

    They take no time, and 256 steps are too coarse for a coordinate, which moreover would be limited to the size of the
    pictures used for calibration.

    Args:
        graph: Graph in topological order whose nodes have names.

    Returns:
        Names of the nodes whose results no layer reads, layers excepted.
    """
    read: set[str] = set()
    decoding = set()
    for node in reversed(graph.node):
        if node.op_type in LAYERS or not read.isdisjoint(node.output):
            read.update(values_used(node))
        else:
            decoding.add(node.name)
    return decoding


def first_layers(graph: onnx.GraphProto) -> set[str]:
    """Find the layers that read no other layer's results.

    On a CPU, int8 does not speed up a convolution of three channels, and ONNX Runtime would normalize the picture in
    the memory layout of int8, which costs 22 % (age and gender) to 86 % (detector) of what the other layers save.

    Args:
        graph: Graph in topological order whose nodes have names.

    Returns:
        Names of these layers.
    """
    computed: set[str] = set()
    first = set()
    for node in graph.node:
        if not computed.isdisjoint(values_used(node)):
            computed.update(node.output)
        elif node.op_type in LAYERS:
            computed.update(node.output)
            first.add(node.name)
    return first
