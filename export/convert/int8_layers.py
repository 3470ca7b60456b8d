"""Tells which nodes of a graph int8 would slow down or spoil."""

from __future__ import annotations

import onnx

from .onnx_graph import values_used

LAYERS = ("Conv", "Gemm")
"""Operators of the layers."""


def last_nodes(graph: onnx.GraphProto) -> set[str]:
    """Find the layers that compute coordinates, scores or depths, and the nodes that decode the results of last layers.

    They take little time, and 256 steps are too coarse for a coordinate, which moreover would be limited to the size of
    the pictures used for calibration. With int8 in the layer that computes it, the landmark model's depth has an error
    of 3.3 % instead of 2.0 %. A softmax averages out the rounding of what it reads, such as heat maps.

    Args:
        graph: Graph in topological order whose nodes have names.

    Returns:
        Names of the layers whose results are read by no other layer and no softmax, and of all nodes after last layers.
    """
    read: set[str] = set()
    averaged: set[str] = set()
    last = set()
    for node in reversed(graph.node):
        is_layer, outputs = node.op_type in LAYERS, set(node.output)
        if node.op_type == "Softmax" or (not is_layer and outputs & averaged):
            averaged.update(values_used(node))
        if is_layer or outputs & read:
            read.update(values_used(node))
        if not outputs & read and not (is_layer and outputs & averaged):
            last.add(node.name)
    return last


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


def layer_outputs(graph: onnx.GraphProto) -> dict[str, list[str]]:
    """List the tensors in which each layer's quantization noise shows.

    Args:
        graph: Graph whose nodes have names.

    Returns:
        By the layer's name, its output and, if a Relu or Clip will be fused into the layer, that one's output.
    """
    activations = {node.input[0]: node.output[0] for node in graph.node if node.op_type in ("Relu", "Clip")}
    outputs = {node.name: node.output[0] for node in graph.node if node.op_type in LAYERS}
    return {name: [out, *([activations[out]] if out in activations else [])] for name, out in outputs.items()}
