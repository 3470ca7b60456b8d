"""Half precision without a checkpoint: between the first and the last heavy layer, and nowhere else."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mien.export.float16 import float16_model, sort_nodes
from mien.runtime.shipped import shipped_model


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
