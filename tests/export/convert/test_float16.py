"""Half precision without a checkpoint: between the first and the last heavy layer, and nowhere else."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mien.export.convert.float16 import float16_model, stored_in_half
from mien.export.convert.onnx_graph import sort_nodes, weights_as_initializers
from mien.runtime.models.shipped import shipped_model


def model_with_tail() -> onnx.ModelProto:
    """image → scaled → Conv → Relu → Conv → + 100000, which no half can hold."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.normal(0, 0.1, (3, 3, 3, 3)).astype(np.float32), n) for n in ("a", "b")]
    far = numpy_helper.from_array(np.float32(100000).reshape(1), "far")
    tiny = numpy_helper.from_array(np.float32(1e-5).reshape(1), "tiny")
    nodes = [
        helper.make_node("Mul", ["image", "tiny"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "a"], ["x"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Conv", ["y", "b"], ["z"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["z", "far"], ["out"]),
    ]
    shape = [1, 3, 8, 8]
    graph = helper.make_graph(
        nodes,
        "tail",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
        [*weights, far, tiny],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def value(name: str, shape: list[int | str] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, *shape: int, scale: float = 0.2) -> onnx.TensorProto:
    rng = np.random.default_rng(len(name))
    return numpy_helper.from_array(rng.normal(0, scale, shape).astype(np.float32), name)


def model_with_if() -> onnx.ModelProto:
    """image → Conv → If, whose branches take the convolution's output and a weight of the graph around → Conv."""
    branches = [
        helper.make_graph(
            [helper.make_node("Conv", ["x", kernel], [out], pads=[1, 1, 1, 1])], out, [], [value(out, None)]
        )
        for kernel, out in (("c", "then"), ("a", "else"))
    ]
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "half"], ["bright"]),
        helper.make_node("Conv", ["image", "a"], ["x"], pads=[1, 1, 1, 1]),
        helper.make_node("If", ["bright"], ["y"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Conv", ["y", "bb"], ["out"], pads=[1, 1, 1, 1]),
    ]
    half = numpy_helper.from_array(np.float32(0.5), "half")
    weights = [weight("a", 3, 3, 3, 3), weight("bb", 3, 3, 3, 3), weight("c", 3, 3, 3, 3), half]
    shape: list[int | str] = [1, 3, 8, 8]
    graph = helper.make_graph(nodes, "if", [value("image", shape)], [value("out", shape)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"image": image}
    )[0]


def test_what_lies_outside_the_heavy_layers_stays_in_float() -> None:
    image = np.random.default_rng(1).uniform(0, 3e5, (1, 3, 8, 8)).astype(np.float32)  # no half holds the input either
    wanted = run(model_with_tail(), image)
    half = float16_model(model_with_tail())
    assert [n.op_type for n in half.graph.node if n.op_type != "Identity"] == [
        "Mul",
        "Cast",
        "Conv",
        "Relu",
        "Conv",
        "Cast",
        "Add",
    ]
    np.testing.assert_allclose(run(half, image), wanted, atol=0.02)
    types = {i.name: i.data_type for i in half.graph.initializer}
    assert (types["a"], types["b"], types["far"]) == (TensorProto.FLOAT16, TensorProto.FLOAT16, TensorProto.FLOAT)


def test_decoding_of_the_detector_stays_in_float() -> None:
    """A Range of halves is what TensorRT refuses, and half a pixel is what a box loses."""
    half = float16_model(onnx.load(shipped_model("detector")))
    kinds = {value.name: value.data_type for value in half.graph.initializer}
    ranges = [node for node in half.graph.node if node.op_type == "Range"]
    assert len(ranges) == 6
    to_half = {n.output[0] for n in half.graph.node if n.op_type == "Cast" and n.attribute[0].i == TensorProto.FLOAT16}
    for node in ranges:
        assert not to_half.intersection(node.input)
        assert TensorProto.FLOAT16 not in {kinds.get(name) for name in node.input}


def test_nodes_are_sorted_and_a_cycle_is_refused() -> None:
    model = model_with_tail()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    sort_nodes(model.graph)
    assert [n.output[0] for n in model.graph.node] == ["scaled", "x", "y", "z", "out"]
    model.graph.node[0].input[0] = "out"
    with pytest.raises(ValueError, match="cycle"):
        sort_nodes(model.graph)


def test_a_weight_that_is_an_output_is_refused() -> None:
    helper, kinds = onnx.helper, onnx.TensorProto
    weight = onnx.numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kinds.FLOAT, ["b", 3, 16, 16])],
        [helper.make_tensor_value_info("y", kinds.FLOAT, None), helper.make_tensor_value_info("w", kinds.FLOAT, None)],
        [weight],
    )
    with pytest.raises(ValueError, match="its output w is a weight"):
        float16_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


def test_subgraphs_take_float_from_around_them() -> None:
    half = float16_model(model_with_if())
    onnx.checker.check_model(half)
    kinds = {t.name: t.data_type for t in half.graph.initializer}
    assert kinds["bb"] == TensorProto.FLOAT16 and kinds["c"] == TensorProto.FLOAT
    for level in (0.2, 0.8):  # both branches
        image = np.full((1, 3, 8, 8), level, np.float32)
        np.testing.assert_allclose(run(half, image), run(model_with_if(), image), atol=5e-3)


def test_constants_and_inputs_with_a_default_become_weights() -> None:
    model = model_with_tail()
    model.ir_version = 3
    model.graph.input.append(value("a", [3, 3, 3, 3]))
    moved = next(t for t in model.graph.initializer if t.name == "b")
    constant = helper.make_node("Constant", [], ["b"], value=moved)
    model.graph.node.insert(0, constant)
    model.graph.initializer.remove(moved)
    weights_as_initializers(model)
    assert [i.name for i in model.graph.input] == ["image"] and model.ir_version == 4
    kinds = {t.name: t.data_type for t in float16_model(model).graph.initializer}
    assert kinds["a"] == kinds["b"] == TensorProto.FLOAT16


def test_a_constant_that_is_an_output_stays() -> None:
    model = model_with_tail()
    model.graph.node.append(helper.make_node("Constant", [], ["k"], value=weight("k", 2)))
    model.graph.output.append(value("k", [2]))
    onnx.checker.check_model(float16_model(model))


def test_functions_are_looked_into() -> None:
    body = [helper.make_node("MatMul", ["p", "q"], ["m"]), helper.make_node("Relu", ["m"], ["r"])]
    block = helper.make_function("local", "Block", ["p", "q"], ["r"], body, [helper.make_opsetid("", 17)])
    nodes = [helper.make_node("Block", ["image", "a"], ["out"], domain="local")]
    graph = helper.make_graph(nodes, "f", [value("image", ["n", 8])], [value("out", ["n", 8])], [weight("a", 8, 8)])
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=domains, functions=[block], ir_version=9)
    half = float16_model(model)
    assert [t.data_type for t in half.graph.initializer] == [TensorProto.FLOAT16]


def test_a_copy_that_stores_halves_rounds_and_overflows() -> None:
    """What a GPU would do, and ONNX Runtime's CPU does not: 64 · 3000 is more than a half holds."""
    nodes = [helper.make_node("MatMul", ["image", "a"], ["x"]), helper.make_node("MatMul", ["x", "b"], ["out"])]
    large = numpy_helper.from_array(np.full((64, 4), 3000, np.float32), "a")
    small = numpy_helper.from_array(np.full((4, 4), 1e-4, np.float32), "b")
    graph = helper.make_graph(nodes, "g", [value("image", ["n", 64])], [value("out", ["n", 4])], [large, small])
    half = float16_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    storing = ort.InferenceSession(stored_in_half(half).SerializeToString(), options, ["CPUExecutionProvider"])
    assert np.isinf(storing.run(None, {"image": np.ones((1, 64), np.float32)})[0]).all()
    (few,) = storing.run(None, {"image": np.full((1, 64), 1e-3, np.float32)})
    np.testing.assert_allclose(few, 0.0768, rtol=2e-3)
