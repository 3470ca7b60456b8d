"""Half precision without a checkpoint: between the first and the last heavy layer, and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mien.export.convert.float16 import float16_model
from mien.export.convert.half_storage import stored_in_half
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


def value(name: str, shape: Sequence[int | str | None] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
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
    assert (types["a_half"], types["b_half"], types["far"]) == (
        TensorProto.FLOAT16,
        TensorProto.FLOAT16,
        TensorProto.FLOAT,
    )


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


def test_a_weight_that_is_an_output_stays_in_float_beside_its_half() -> None:
    helper, kinds = onnx.helper, onnx.TensorProto
    weight = onnx.numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kinds.FLOAT, ["b", 3, 16, 16])],
        [value("y", [None] * 4), value("w", [4, 3, 3, 3])],
        [weight],
    )
    half = float16_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    onnx.checker.check_model(half)
    assert {t.name: t.data_type for t in half.graph.initializer} == {"w": kinds.FLOAT, "w_half": kinds.FLOAT16}


def converted(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], *, opset: int = 17) -> onnx.ModelProto:
    """A half of a graph from image (b, 3, h, w) to out, which ONNX finds correct."""
    ends = [value("image", ["b", 3, "h", "w"])], [value("out", [None] * 4)]
    graph = helper.make_graph(nodes, "g", *ends, weights)
    ir = 7 if opset < 14 else 9
    half = float16_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir))
    onnx.checker.check_model(half, full_check=True)
    return half


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {v.name: v.type.tensor_type.elem_type for v in [*inferred.value_info, *inferred.output, *inferred.input]}


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
def test_lengths_and_integers_never_pass_through_halves(opset: int) -> None:
    """A picture of 2001 columns: float16 has no odd number of that size."""
    axes = numpy_helper.from_array(np.array([0], np.int64), "axes")
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["x"], pads=[1, 1, 1, 1]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "three"], ["columns"]),
        helper.make_node("Cast", ["columns"], ["float_columns"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float_columns", "one"], ["same_columns"]),
        helper.make_node("Cast", ["same_columns"], ["end"], to=TensorProto.INT64),
        helper.make_node("Slice", ["x", "zero", "end", "three"], ["cut"]),
        helper.make_node("ArgMax", ["cut"], ["best"], axis=3),  # an index
        helper.make_node("Cast", ["best"], ["float_best"], to=TensorProto.FLOAT),
        helper.make_node("Min", ["float_best", "limit"], ["limited"]),
        helper.make_node("Mul", ["cut", "limited"], ["weighted"]),
        helper.make_node("Conv", ["weighted", "b"], ["out"], pads=[1, 1, 1, 1]),
    ]
    integers = {"three": [3], "zero": [0]}
    weights = [weight("a", 3, 3, 3, 3), weight("b", 3, 3, 3, 3, scale=1e-4), axes]
    weights += [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in integers.items()]
    weights += [numpy_helper.from_array(np.array([v], np.float32), k) for k, v in (("one", 1), ("limit", 3001))]
    half = converted(nodes, weights, opset=opset)
    kinds = types_of(half)
    for name in ("float_columns", "same_columns", "float_best", "limited", "weighted"):
        assert kinds[name] == TensorProto.FLOAT, name
    assert sum(t.data_type == TensorProto.FLOAT16 for t in half.graph.initializer) == 2
    image = np.random.default_rng(0).uniform(0, 1, (1, 3, 4, 2001)).astype(np.float32)
    assert run(half, image).shape == (1, 3, 4, 2001)


def test_constants_that_no_half_holds_keep_their_node_in_float() -> None:
    for number in (1e-9, 1e6, 2049.0, -3.4e38):
        nodes = [
            helper.make_node("Conv", ["image", "a"], ["x"], pads=[1, 1, 1, 1]),
            helper.make_node("Add", ["x", "number"], ["y"]),
            helper.make_node("Conv", ["y", "b"], ["out"], pads=[1, 1, 1, 1]),
        ]
        weights = [weight("a", 3, 3, 3, 3), weight("b", 3, 3, 3, 3)]
        far = numpy_helper.from_array(np.array([number], np.float32), "number")
        assert types_of(converted(nodes, [*weights, far]))["y"] == TensorProto.FLOAT
        near = numpy_helper.from_array(np.array([0.1], np.float32), "number")
        assert "y" not in types_of(converted(nodes, [*weights, near]))


def test_names_that_are_taken_are_left_alone() -> None:
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["x_half"], name="a_half", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["x_half"], ["x_half_half"]),
        helper.make_node("Conv", ["x_half_half", "b"], ["graph_output_cast_0"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["graph_output_cast_0"], ["out"]),
    ]
    half = converted(nodes, [weight("a", 3, 3, 3, 3), weight("b", 3, 3, 3, 3)])
    image = np.random.default_rng(0).uniform(0, 1, (1, 3, 8, 8)).astype(np.float32)
    assert np.isfinite(run(stored_in_half(half), image)).all()


def test_types_that_inference_does_not_know_follow_from_the_weights() -> None:
    nodes = [
        helper.make_node("Odd", ["image"], ["x"], domain="somebody"),
        helper.make_node("Conv", ["x", "a"], ["y"], pads=[1, 1, 1, 1]),
        helper.make_node("Odd", ["y"], ["z"], domain="somebody"),
        helper.make_node("Conv", ["z", "b"], ["out"], pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [value("image", [1, 3, 8, 8])],
        [value("out", None)],
        [weight("a", 3, 3, 3, 3), weight("b", 3, 3, 3, 3)],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("somebody", 1)]
    half = float16_model(helper.make_model(graph, opset_imports=domains, ir_version=9))
    assert {t.data_type for t in half.graph.initializer} == {TensorProto.FLOAT16}
    assert [list(n.input) for n in half.graph.node if n.op_type == "Odd"] == [["image"], ["y"]]
    assert types_of(half)["y"] == TensorProto.FLOAT


def test_many_nodes_take_time_in_proportion() -> None:
    """12,000 nodes in the wrong order: minutes, if each pass looked at all of them."""
    count = 12_000
    nodes = [helper.make_node("Conv", ["image", "a"], ["v0"], pads=[1, 1, 1, 1])]
    nodes += [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    nodes += [helper.make_node("Conv", [f"v{count}", "a"], ["out"], pads=[1, 1, 1, 1])]
    begun = time.process_time()
    half = converted(nodes[::-1], [weight("a", 3, 3, 3, 3)])
    assert time.process_time() - begun < 20
    assert half.graph.node[0].output[0].startswith("image") and len(half.graph.node) == count + 4


def test_subgraphs_take_float_from_around_them() -> None:
    half = float16_model(model_with_if())
    onnx.checker.check_model(half)
    kinds = {t.name: t.data_type for t in half.graph.initializer}
    assert kinds["bb_half"] == TensorProto.FLOAT16 and kinds["c"] == TensorProto.FLOAT
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
    assert kinds["a_half"] == kinds["b_half"] == TensorProto.FLOAT16


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
