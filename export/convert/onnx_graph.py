"""Helpers for editing ONNX graphs in place: names, order, weights and nested graphs."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePath

import numpy as np
import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from ...runtime.errors import ModelError
from ...runtime.models.model_file import ModelFile, ModelSource


class FreshNames:
    """Generator of names that are unused in a graph, including its nested graphs."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._taken: set[str] = set()
        self._next: defaultdict[str, int] = defaultdict(int)
        self._take(graph)

    def _take(self, graph: onnx.GraphProto) -> None:
        self._taken.update(value.name for value in [*graph.input, *graph.output, *graph.initializer])
        self._taken.update(tensor.values.name for tensor in graph.sparse_initializer)
        for node in graph.node:
            self._taken.update([node.name, *node.input, *node.output])
            for inner in subgraphs(node):
                self._take(inner)

    def __call__(self, wanted: str) -> str:
        """Return `wanted`, with a number if it is taken."""
        name = wanted
        while name in self._taken:
            self._next[wanted] += 1
            name = f"{wanted}_{self._next[wanted]}"
        self._taken.add(name)
        return name


def all_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the constant tensors of a graph, both weights and attributes, including nested graphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in subgraphs(node):
            yield from all_tensors(inner)


def read_onnx(source: ModelSource) -> onnx.ModelProto:
    """Read an ONNX file with its external weights; symbolic links are followed, as caches of model hubs use them.

    Raises:
        ModelError: A file is missing or too short, or would lie outside the folder.
    """
    file = ModelFile.of(source)
    if isinstance(file.content, bytes):
        return onnx.load_model_from_string(file.content)
    model = onnx.load(str(file.content), load_external_data=False)
    _load_external_data(model, file.content.parent)
    return model


def _load_external_data(model: onnx.ModelProto, folder: Path) -> None:
    for tensor in all_tensors(model.graph):
        if not uses_external_data(tensor):
            continue
        where = ExternalDataInfo(tensor)
        location = PurePath(where.location)
        if location.is_absolute() or ".." in location.parts:
            raise ModelError(f"the weight {tensor.name} lies in {location}, expected a file beside the model")
        length = -1 if where.length is None else int(where.length)
        try:
            with (folder / location).open("rb") as file:
                file.seek(where.offset or 0)
                tensor.raw_data = file.read(length)
        except OSError as error:
            raise ModelError(f"the weights in {folder / location} cannot be read ({error.strerror})") from error
        if len(tensor.raw_data) < length:
            raise ModelError(f"{folder / location} ends before the weight {tensor.name}; copy it again")
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def named_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Name all unnamed nodes in place, because the quantizer identifies nodes by name."""
    fresh = FreshNames(model.graph)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or fresh(f"{node.op_type}_{number}")
    return model


def weights_as_initializers(model: onnx.ModelProto) -> None:
    """Turn constant nodes, and inputs with a default value, into initializers, in place.

    Older exporters list every weight as such an input, so nearly all of these are meant to be constant.
    """
    graph = model.graph
    outputs = {value.name for value in graph.output}
    nodes = []
    for node in graph.node:
        movable = node.op_type == "Constant" and node.output[0] not in outputs
        tensor = _constant(node) if movable else None
        if tensor is None:
            nodes.append(node)
        else:
            graph.initializer.append(tensor)
    if len(nodes) < len(graph.node):
        kept = list(nodes)
        del graph.node[:]
        graph.node.extend(kept)
    weights = {tensor.name for tensor in graph.initializer}
    for values in (graph.input, graph.value_info):  # a value_info may contradict the weight itself
        for value in [v for v in values if v.name in weights]:
            values.remove(value)
    model.ir_version = max(model.ir_version, 4)  # the first version in which an initializer need not be an input


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """Return the value of a constant node as a tensor named like its output; None if it is sparse or a string."""
    (attribute,) = node.attribute
    if attribute.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.output[0]
        return tensor
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in kinds:
        return None
    value = np.array(onnx.helper.get_attribute_value(attribute), kinds[attribute.name])
    return onnx.numpy_helper.from_array(value, node.output[0])


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Sort nodes topologically in place, keeping their order where possible.

    Raises:
        ValueError: The graph has a cycle.
    """
    nodes = list(graph.node)
    producer = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    sorter = TopologicalSorter(
        {i: {producer[name] for name in values_used(node) if name in producer} for i, node in enumerate(nodes)}
    )
    try:
        sorter.prepare()
    except CycleError as error:
        node = nodes[error.args[1][0]]
        raise ValueError(f"the graph has a cycle at {node.name or node.output[0]}") from error
    ready: list[int] = []
    ordered: list[int] = []
    while sorter.is_active():
        for i in sorter.get_ready():
            heapq.heappush(ready, i)
        ordered.append(heapq.heappop(ready))
        sorter.done(ordered[-1])
    if ordered != sorted(ordered):
        del graph.node[:]
        graph.node.extend(nodes[i] for i in ordered)


def casts_to(node: onnx.NodeProto, *types: int) -> bool:
    """Return whether a node is a cast to one of these element types."""
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
        used = [name for inner in graph.node for name in values_used(inner)] + [value.name for value in graph.output]
        names += [name for name in used if name and name not in own]
    return names
