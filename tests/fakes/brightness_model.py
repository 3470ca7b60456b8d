"""A classifier as a file of mien: how bright a picture is, as the probability of ``bright`` against ``dark``."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from mien.runtime.models.spec import METADATA_KEY, ModelSpec, Task

SIDE = 16
SPEC = ModelSpec(Task.CLASSIFY, (SIDE, SIDE), ("probabilities",), classes=("dark", "bright"))


def write_brightness_model(path: Path) -> Path:
    """Write the model to `path`, and return it."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["bright"]),
        helper.make_node("Sub", ["one", "bright"], ["dark"]),
        helper.make_node("Unsqueeze", ["bright", "last"], ["bright_column"]),
        helper.make_node("Unsqueeze", ["dark", "last"], ["dark_column"]),
        helper.make_node("Concat", ["dark_column", "bright_column"], ["probabilities"], axis=1),
    ]
    constants = [
        helper.make_tensor("white", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: SPEC.to_json()})
    onnx.save(model, str(path))
    return path
