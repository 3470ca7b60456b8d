"""Converts model files to half precision where the operator schemas of ONNX allow it; needs no checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.inliner

from .onnx_graph import FreshNames, sort_nodes, subgraphs, values_used, weights_as_initializers

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators worth converting. Only nodes between the first and the last of them become half precision."""
_FLOAT, _FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
_MAX = float(np.finfo(np.float16).max)
_TYPED_BY_ATTRIBUTE = frozenset({"dtype", "output_dtype", "output_datatype", "to"})
_OF_SHAPES = frozenset({"Shape", "Size"})
"""Operators that read the shape of a value, not its elements."""
_NO_LONGER_COUNTING = HEAVY | {
    *("Softmax", "LogSoftmax", "Sigmoid", "Tanh", "Exp", "Erf", "Sin", "Cos", "LSTM", "GRU", "RNN"),
    *("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "LpNormalization"),
}
"""Operators whose outputs are no integers, lengths or positions, whatever their inputs."""


@dataclass(frozen=True, slots=True)
class _Slots:
    """Positions of the inputs and outputs of a node that change from float32 to float16."""

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()


def float16_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a float32 model to float16 between its first and last heavy layers; `model` itself may be changed.

    Normalization, decoding, inputs and outputs stay float32: float16 box coordinates beyond 512 px move in steps of
    half a pixel, and TensorRT rejects a float16 Range. So do nodes inside If, Loop and Scan, nodes that compute with
    integers or shapes (float16 has no odd numbers beyond 2048), and nodes with a constant that float16 cannot hold.

    Raises:
        ValueError: The graph has a cycle.
    """
    if model.functions:  # no schema describes them
        model = onnx.inliner.inline_local_functions(model)
    weights_as_initializers(model)
    sort_nodes(model.graph)
    types = _value_types(model)
    slots = [_slots(node, types, _opset(model)) for node in model.graph.node]
    chosen = _chosen(model.graph, slots, types)
    _rewrite(model.graph, [one if i in chosen else _Slots() for i, one in enumerate(slots)])
    return model


def _opset(model: onnx.ModelProto) -> int:
    return max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=1)


def _schema(node: onnx.NodeProto, opset: int) -> onnx.defs.OpSchema | None:
    known = node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type, max_inclusive_version=opset, domain="")
    return onnx.defs.get_schema(node.op_type, opset, "") if known else None


def _value_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return element types by value name; types unknown to shape inference follow from their operator's schema."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {t.name: t.data_type for t in graph.initializer}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.tensor_type.elem_type:
            types.setdefault(value.name, value.type.tensor_type.elem_type)
    for node in model.graph.node:
        if (schema := _schema(node, _opset(model))) is None:
            continue
        named = [*_formals(schema.inputs, node.input), *_formals(schema.outputs, node.output)]
        bound = {kind: types[name] for _, name, kind in named if name in types}
        for _, name, kind in named:
            if kind in bound and not kind.startswith(("tensor(", "seq(", "optional(")):
                types.setdefault(name, bound[kind])
    return types


def _formals(
    formals: Collection[onnx.defs.OpSchema.FormalParameter], names: Iterable[str]
) -> list[tuple[int, str, str]]:
    """Return position, value name and type (or type parameter) of each present input or output; the last may repeat."""
    kinds = [formal.type_str for formal in formals]
    return [(i, name, kinds[min(i, len(kinds) - 1)]) for i, name in enumerate(names) if name and kinds]


def _slots(node: onnx.NodeProto, types: dict[str, int], opset: int) -> _Slots:
    """Return the inputs and outputs that could be float16: none unless all float32 outputs follow the inputs' type."""
    schema = _schema(node, opset)
    fixed = subgraphs(node) or not _TYPED_BY_ATTRIBUTE.isdisjoint(one.name for one in node.attribute)
    if schema is None or fixed or node.op_type == "CastLike":
        return _Slots()
    allowed = {one.type_param_str for one in schema.type_constraints if "tensor(float16)" in one.allowed_type_strs}
    inputs, outputs = (
        [(i, kind) for i, name, kind in _formals(formals, names) if types.get(name) == _FLOAT]
        for formals, names in ((schema.inputs, node.input), (schema.outputs, node.output))
    )
    followed = {kind for _, kind in inputs} & allowed
    if not outputs or not followed.issuperset(kind for _, kind in outputs):
        return _Slots()
    return _Slots(tuple(i for i, kind in inputs if kind in allowed), tuple(i for i, _ in outputs))


def _chosen(graph: onnx.GraphProto, slots: list[_Slots], types: dict[str, int]) -> set[int]:
    """Return the indices of the nodes to convert: those between heavy ones that are exact enough in float16."""
    heavy = {i for i, node in enumerate(graph.node) if node.op_type in HEAVY and slots[i].outputs}
    numbered = list(enumerate(graph.node))
    after = _reached(numbered, heavy, values_used, lambda node: () if node.op_type in _OF_SHAPES else node.output)
    before = _reached(reversed(numbered), heavy, lambda node: node.output, values_used)
    counting = _counting_values(graph, types)
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == _FLOAT}
    chosen = set()
    for i in after & before:
        node = graph.node[i]
        given = [node.input[k] for k in slots[i].inputs]
        exact = i in heavy or counting.isdisjoint(given)
        if slots[i].outputs and exact and all(_fits(constants[n], i in heavy) for n in given if n in constants):
            chosen.add(i)
    return chosen


def _reached(
    nodes: Iterable[tuple[int, onnx.NodeProto]],
    heavy: set[int],
    source: Callable[[onnx.NodeProto], Iterable[str]],
    target: Callable[[onnx.NodeProto], Iterable[str]],
) -> set[int]:
    """Return the indices of the heavy nodes and of all nodes connected to one, walking in the order of `nodes`."""
    values: set[str] = set()
    found = set()
    for i, node in nodes:
        if i in heavy or values.intersection(source(node)):
            values.update(target(node))
            found.add(i)
    return found


def _counting_values(graph: onnx.GraphProto, types: dict[str, int]) -> set[str]:
    """Return the names of float32 values derived from integers or shapes, such as class ids and lengths."""
    found: set[str] = set()
    for node in graph.node:
        cast = node.op_type in ("Cast", "CastLike") and types.get(node.input[0], _FLOAT) not in (_FLOAT, _FLOAT16)
        if cast or (node.op_type not in _NO_LONGER_COUNTING and found.intersection(values_used(node))):
            found.update(name for name in node.output if types.get(name, _FLOAT) == _FLOAT)
    return found


def _fits(constant: onnx.TensorProto, is_weight: bool) -> bool:
    """Return whether float16 can hold a constant; small weights may become zero, but not divisors or large integers."""
    values = onnx.numpy_helper.to_array(constant)
    if np.any(np.isfinite(values) & (np.abs(values) > _MAX)):
        return False
    half = values.astype(np.float16)
    vanished = np.any((half == 0) & (values != 0))
    uncounted = np.any(half != values) and np.array_equal(values, np.round(values))
    return is_weight or not (vanished or uncounted)


def _rewrite(graph: onnx.GraphProto, slots: list[_Slots]) -> None:
    """Convert nodes in place, with casts between float32 and float16; float32 values keep their names."""
    rewriter = _Rewriter(graph)
    for node, change in zip(graph.node, slots, strict=True):
        rewriter.add(node, change)
    rewriter.finish()


class _Rewriter:
    """Builds the converted nodes one by one, in topological order."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._fresh = FreshNames(graph)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._halves: dict[str, str] = {}  # float16 copies by the name of the float32 value
        self._computed_in_half: set[str] = set()
        self._widened: set[str] = set()  # values computed in float16 that exist in float32 too
        self._in_float: set[str] = set()  # names of float32 values that something uses

    def add(self, node: onnx.NodeProto, change: _Slots) -> None:
        """Add a node, preceded by the casts that it needs."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for i in change.inputs:
            copy.input[i] = self._in_half(node.input[i])
        if node.op_type in _OF_SHAPES:
            if node.input[0] in self._computed_in_half:
                copy.input[0] = self._halves[node.input[0]]
            self._in_float.add(copy.input[0])
        else:
            kept = {node.input[i] for i in change.inputs}
            self._use_in_float(name for name in values_used(node) if name not in kept)
        for i in change.outputs:
            copy.output[i] = self._halves[node.output[i]] = self._fresh(f"{node.output[i]}_half")
            self._computed_in_half.add(node.output[i])
        self._nodes.append(copy)

    def finish(self) -> None:
        """Replace the graph's nodes, and drop the weights and types that nothing uses any more."""
        self._use_in_float(value.name for value in self._graph.output)
        unused = self._constants.keys() - self._in_float
        gone = self._computed_in_half - self._widened
        weights = [tensor for tensor in self._graph.initializer if tensor.name not in unused]
        types = [value for value in self._graph.value_info if value.name not in gone]
        _replace(self._graph.node, self._nodes)
        _replace(self._graph.initializer, weights)
        _replace(self._graph.value_info, types)

    def _in_half(self, name: str) -> str:
        if name not in self._halves:
            half = self._halves[name] = self._fresh(f"{name}_half")
            if name in self._constants:
                values = onnx.numpy_helper.to_array(self._constants[name]).astype(np.float16)
                self._graph.initializer.append(onnx.numpy_helper.from_array(values, half))
            else:
                self._in_float.add(name)
                self._cast(name, half, _FLOAT16)
        return self._halves[name]

    def _use_in_float(self, names: Iterable[str]) -> None:
        for name in names:
            self._in_float.add(name)
            if name in self._computed_in_half and name not in self._widened:
                self._widened.add(name)
                self._cast(self._halves[name], name, _FLOAT)

    def _cast(self, source: str, target: str, kind: int) -> None:
        name = self._fresh(f"{target}_cast")
        self._nodes.append(onnx.helper.make_node("Cast", [source], [target], name=name, to=kind))


def _replace(field: Any, values: list[Any]) -> None:
    kept = list(values)  # deleting the field's elements would invalidate those of `values` that it holds
    del field[:]
    field.extend(kept)
