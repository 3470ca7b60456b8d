"""A model's metadata is read from the file itself, without a session."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime as ort
import pytest

from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.backends.ort.onnx_session import reason_of
from mien.runtime.errors import ModelError
from mien.runtime.models.model_file import ModelFile, model_spec
from mien.runtime.models.shipped import shipped_model, shipped_models

LANDMARKS = shipped_model("landmarks")


@pytest.mark.parametrize("path", shipped_models(), ids=lambda path: path.stem)
def test_the_header_is_what_a_session_says(path: Path) -> None:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for model in (ModelFile.of(path), ModelFile(path.name, path.read_bytes())):
        assert model.spec.to_json() == session.get_modelmeta().custom_metadata_map["mien"]
        assert model.outputs == tuple(output.name for output in session.get_outputs())
        assert (model.name, model.stem, model.sha256) == (path.name, path.stem, ModelFile.of(path).sha256)


def test_the_header_of_a_foreign_file(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    one = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xyz"]
    nodes = [onnx.helper.make_node("Identity", ["x"], [name]) for name in "yz"]
    graph = onnx.helper.make_graph(nodes, "g", one[:1], one[1:])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    onnx.helper.set_model_props(proto, {"author": "somebody", "mien2": "no"})
    model = ModelFile("foreign.onnx", proto.SerializeToString())
    assert model.metadata is None and model.outputs == ("y", "z")
    with pytest.raises(ModelError, match=r"foreign\.onnx carries no mien metadata; make model files with mien export"):
        assert model.spec


def test_a_model_opens_from_bytes_as_from_its_path() -> None:
    with OnnxRunner(ModelFile("landmarks.onnx", LANDMARKS.read_bytes())) as runner:
        assert runner.spec == model_spec(LANDMARKS)


@pytest.mark.parametrize(
    "content",
    [b"", b"nothing", b"\x0a", b"\x0a\x05a", b"\xff" * 20, b"\x00\x01", b"\x72\x04\x0a\x02\xff\xff\x3a\x00"],
)
def test_malformed_bytes_are_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "no.onnx"
    path.write_bytes(content)
    for model in (ModelFile.of(path), ModelFile("no.onnx", content)):
        with pytest.raises(ModelError, match=r"no\.onnx is not a model that ONNX Runtime can load") as error:
            assert model.metadata
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"", "it holds nothing"), (b"some notes\n", "it holds text"), (b"\x89PNG\r\n\x1a\n", "it holds a PNG picture")],
)
def test_another_kind_of_file_is_named(content: bytes, found: str) -> None:
    with pytest.raises(ModelError, match=f"can load: {found}; make model files with mien export"):
        _ = ModelFile("no.onnx", content).metadata
    with pytest.raises(ModelError, match="it is truncated, damaged or not an ONNX file"):
        _ = ModelFile("no.onnx", LANDMARKS.read_bytes()[:3000]).metadata


@pytest.mark.parametrize(
    ("content", "held"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "run: git lfs pull"),
        (b"<!doctype html><h1>404", "an HTML page"),
        (b"PK\x03\x04" + bytes(40), "a ZIP or another archive"),
    ],
)
def test_what_came_instead_of_a_model_is_named(content: bytes, held: str, tmp_path: Path) -> None:
    path = tmp_path / "no.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=held):
        assert ModelFile.of(path).metadata
    with pytest.raises(ModelError, match=held):
        OnnxRunner(path)


def test_the_reason_is_that_of_the_innermost_error() -> None:
    place = "Exception during initialization: /src/core/initializer.cc:79 ort::Initializer::Initializer(const Graph&) "
    inner = "[ONNXRuntimeError] : 1 : FAIL : tensorprotoutils.cc:2201 GetExtDataFromTensorProto External initializer: w"
    assert reason_of(RuntimeError(f"[ONNXRuntimeError] : 1 : FAIL : {place}{inner}")) == "External initializer: w"


def test_any_cut_of_a_file_is_refused() -> None:
    whole = LANDMARKS.read_bytes()
    for length in range(1, len(whole), 9973):
        with pytest.raises(ModelError):
            assert ModelFile("cut.onnx", whole[:length]).metadata


@pytest.mark.parametrize("head", [b"PK\x03\x04" + b"\0" * 26 + b"face/data.pkl", b"\x80\x02}q\x00"])
def test_a_checkpoint_is_recognized_by_its_content(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "face.onnx"
    path.write_bytes(head)
    with pytest.raises(
        ModelError, match=r"face\.onnx is a checkpoint; rename it to face\.pt, then run: mien export .*face\.pt"
    ):
        ModelFile.of(path)
    with pytest.raises(ModelError, match=r"is a checkpoint; run: mien export FACE\.PT -o FACE\.onnx"):
        ModelFile.of("FACE.PT")
    with pytest.raises(ModelError, match=r"run: mien export 'my face\.pt' -o 'my face\.onnx'"):
        ModelFile.of("my face.pt")


def test_a_file_that_is_missing_or_a_folder_is_no_model(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ModelError, match=r"no model|is a folder, expected a model"):
            ModelFile.of(path)


def test_bytes_are_lent_as_a_file_that_is_gone_afterwards() -> None:
    with ModelFile("models/face.onnx", b"model").as_path() as path:
        assert Path(path).read_bytes() == b"model"
    assert not Path(path).exists()


def test_a_folder_whose_name_is_no_utf8_holds_models_too(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe4rger"))  # in Latin-1
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system wants UTF-8")
    own = folder / "own.onnx"
    own.write_bytes(LANDMARKS.read_bytes())
    with OnnxRunner(own) as runner:
        assert runner.spec == model_spec(LANDMARKS)
    with ModelFile.of(own).as_path() as path:
        assert path.isascii() and Path(path).read_bytes() == LANDMARKS.read_bytes()
