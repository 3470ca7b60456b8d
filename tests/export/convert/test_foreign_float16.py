"""Anybody's file in half precision: kept where its outputs stay, refused with a reason otherwise."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from mien.export.convert import foreign_float16
from mien.export.convert.foreign_float16 import ConvertedForeign, convert_foreign, is_foreign
from mien.runtime.backends.open_runner import open_model
from mien.runtime.backends.ort import onnx_session
from mien.runtime.errors import CheckFailed, InputError, MienError, ModelError, OutputError, ProcessFailed
from mien.runtime.models.first_try import try_first
from mien.runtime.models.runner import Provider
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import Precision

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
YUNET = Path(__file__).parents[4] / "shared" / "weights" / "face_detection_yunet_2023mar.onnx"


@pytest.fixture(autouse=True)
def convert_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert in this process; `monkeypatch.undo()` brings back the one that conversions have of their own."""

    def call(function: Callable[..., object], *args: object, doing: str, hint: str) -> object:
        return function(*args)

    monkeypatch.setattr(foreign_float16, "call_isolated", call)


def value(name: str, shape: list[int | str] | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, *shape: int, scale: float = 0.2) -> onnx.TensorProto:
    rng = np.random.default_rng(0)
    return numpy_helper.from_array(rng.normal(0, scale, shape).astype(np.float32), name)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
    *,
    opset: int = 17,
) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    helper.set_model_props(model, {"author": "somebody"})
    onnx.save(model, str(path))
    return path


def classifier(path: Path, *, size: int | str = 32) -> Path:
    """image (n, 3, s, s) → Conv → Relu → Conv → pooled logits, and the class that is the largest."""
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["x"]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Conv", ["y", "b"], ["z"]),
        helper.make_node("GlobalAveragePool", ["z"], ["p"]),
        helper.make_node("Flatten", ["p"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["best"], axis=1, keepdims=0),
    ]
    weights = [weight("a", 32, 3, 3, 3), weight("b", 10, 32, 3, 3)]
    outputs = [value("logits", ["n", 10]), value("best", ["n"], INT64)]
    return save(path, nodes, [value("image", ["n", 3, size, size])], outputs, weights)


def convert(source: Path, **options: Path) -> ConvertedForeign:
    return convert_foreign(source, source.with_name("half.onnx"), precision=Precision.FP16, **options)


def refused(source: Path, kind: type[MienError], message: str, **options: Path) -> None:
    before = sorted(source.parent.iterdir())
    with pytest.raises(kind, match=message):
        convert(source, **options)
    assert sorted(source.parent.iterdir()) == before


@pytest.mark.parametrize("size", [32, "side"])
def test_half_the_size_and_the_same_outputs(tmp_path: Path, size: int | str) -> None:
    source = classifier(tmp_path / "whole.onnx", size=size)
    assert is_foreign(source) and not is_foreign(shipped_model("landmarks"))
    done = convert(source)
    assert done.size_bytes < 0.6 * done.source_bytes and done.size_bytes == done.path.stat().st_size
    assert done.parity and set(done.parity.outputs) == {"logits", "best"}
    assert 0 < done.parity.outputs["logits"].max < 0.5 and done.parity.outputs["best"].max == 0
    sides = (32, 32, 32) if size == 32 else (224, 160, 225)
    made = "; ".join(f"image {b}×3×{side}×{side}: pictures" for b, side in zip((1, 2, 5), sides, strict=True))
    assert done.compared_on == f"9 calls, inputs made from the file's shapes: {made}"
    model = onnx.load(str(done.path))
    onnx.checker.check_model(model)
    assert {p.key: p.value for p in model.metadata_props} == {"author": "somebody"}
    whole = onnx.load(str(source))
    assert list(model.graph.input) == list(whole.graph.input) and list(model.graph.output) == list(whole.graph.output)
    assert {t.data_type for t in model.graph.initializer} == {TensorProto.FLOAT16}


def test_given_inputs_are_compared_on(tmp_path: Path) -> None:
    source = classifier(tmp_path / "whole.onnx")
    feed = tmp_path / "feed.npz"
    np.savez(feed, image=np.random.default_rng(0).uniform(0, 1, (4, 2, 3, 32, 32)).astype(np.float32))
    assert convert(source, inputs=feed).compared_on == "4 calls, inputs from the given file"
    np.savez(feed, image=np.ones((2, 3, 32, 32), np.float32))
    assert convert(source, inputs=feed).compared_on == "1 call, inputs from the given file"
    np.savez(feed, picture=np.ones((1, 3, 32, 32), np.float32))
    refused(source, InputError, "expected inputs named image, found picture", inputs=feed)
    np.savez(feed, image=np.ones((1, 5, 32, 32), np.float32))
    refused(source, InputError, r"whole\.onnx rejects these inputs", inputs=feed)


def test_what_overflows_in_half_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime's CPU alone would pass it: it computes halves in float32."""
    nodes = [helper.make_node("MatMul", ["x", "large"], ["y"]), helper.make_node("MatMul", ["y", "small"], ["out"])]
    weights = [
        numpy_helper.from_array(np.full((64, 4), 2.0**15, np.float32), "large"),
        numpy_helper.from_array(np.full((4, 4), 2.0**-15, np.float32), "small"),
    ]
    source = save(tmp_path / "large.onnx", nodes, [value("x", [8, 64])], [value("out", [8, 4])], weights)
    refused(source, CheckFailed, r"fp16 differs: out inf %.*--inputs FILE")


def test_outputs_without_a_signal_cannot_be_judged(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["out"])]
    tiny = [weight("w", 8, 8, scale=1e-8)]
    source = save(tmp_path / "tiny.onnx", nodes, [value("x", [2, 8])], [value("out", [2, 8])], tiny)
    refused(source, CheckFailed, "fp16 cannot be judged: no proof")


def test_rows_that_values_decide_on_must_be_as_many(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Greater", ["m", "zero"], ["above"]),
        helper.make_node("NonZero", ["above"], ["where"]),
    ]
    weights = [weight("w", 256, 256), numpy_helper.from_array(np.float32(0), "zero")]
    source = save(tmp_path / "r.onnx", nodes, [value("x", [256, 256])], [value("where", [2, "k"], INT64)], weights)
    refused(source, CheckFailed, "where has shape .* in float32; .* cut the graph before that")


def test_several_inputs_of_which_one_has_no_size(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gather", ["table", "ids"], ["e"]), helper.make_node("MatMul", ["e", "w"], ["m"])]
    nodes.append(helper.make_node("Mul", ["m", "gain"], ["out"]))
    inputs = [value("ids", ["batch", "words"], INT64), value("gain", [8])]
    weights = [weight("table", 50, 8), weight("w", 8, 8)]
    done = convert(save(tmp_path / "text.onnx", nodes, inputs, [value("out", None)], weights))
    assert "ids 1×16: noise, gain 8: noise; ids 2×7: noise, gain" in done.compared_on and done.parity


def test_weights_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = onnx.load(str(classifier(tmp_path / "one.onnx")))
    source = tmp_path / "two.onnx"
    onnx.save_model(whole, str(source), save_as_external_data=True, location="two.data", size_threshold=0)
    weights = tmp_path / "two.data"
    done = convert(source)
    assert done.source_bytes == source.stat().st_size + weights.stat().st_size and done.parity
    with monkeypatch.context() as patch:
        patch.setattr(foreign_float16, "MAX_BYTES", 1000)
        with pytest.raises(ModelError, match="GiB with its weights, expected less than 2"):
            foreign_float16._load(source)
    weights.unlink()
    refused(source, ModelError, "two.onnx is not a model that ONNX Runtime can load")


def test_weights_behind_links(tmp_path: Path) -> None:
    """As in the cache of a model hub, where the names are links to files named by their digests."""
    hub, names = tmp_path / "blobs", tmp_path / "snapshots" / "x"
    hub.mkdir()
    names.mkdir(parents=True)
    whole = onnx.load(str(classifier(tmp_path / "one.onnx")))
    onnx.save_model(whole, str(hub / "abc"), save_as_external_data=True, location="model.data", size_threshold=0)
    (hub / "model.data").rename(hub / "def")
    for name, blob in (("model.onnx", "abc"), ("model.data", "def")):
        (names / name).symlink_to(Path("../../blobs") / blob)
    done = convert_foreign(names / "model.onnx", tmp_path / "half.onnx", precision=Precision.FP16)
    assert done.parity and done.source_bytes == sum(path.stat().st_size for path in hub.iterdir())
    (hub / "def").write_bytes((hub / "def").read_bytes()[:-4])
    with pytest.raises(ModelError):
        convert_foreign(names / "model.onnx", tmp_path / "again.onnx", precision=Precision.FP16)
    with pytest.raises(ModelError, match=r"model\.data ends before the weight"):
        foreign_float16._load(names / "model.onnx")


def test_weights_beside_the_target_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    whole = onnx.load(str(classifier(tmp_path / "one.onnx")))
    target, link = tmp_path / "made" / "m.onnx", tmp_path / "link.onnx"
    onnx.save_model(whole, str(target), save_as_external_data=True, location="m.data", size_threshold=0)
    link.symlink_to(target)
    assert convert(link).source_bytes == target.stat().st_size + target.with_name("m.data").stat().st_size


@pytest.mark.parametrize("draw", ["noise", "dropout"])
def test_random_outputs_are_said_to_be_random(draw: str, tmp_path: Path) -> None:
    nodes = {
        "noise": [helper.make_node("RandomNormalLike", ["m"], ["r"]), helper.make_node("Add", ["m", "r"], ["y"])],
        "dropout": [helper.make_node("Dropout", ["m", "ratio", "training"], ["y"])],
    }[draw]
    constants = [
        weight("w", 8, 8),
        numpy_helper.from_array(np.float32(0.5), "ratio"),
        numpy_helper.from_array(np.bool_(True), "training"),
    ]
    product = helper.make_node("MatMul", ["x", "w"], ["m"])
    source = save(tmp_path / "r.onnx", [product, *nodes], [value("x", [4, 8])], [value("y", [4, 8])], constants)
    refused(source, CheckFailed, "its outputs are random, so fp16 cannot be judged: two calls")


def test_sizes_that_the_file_itself_does_not_take_are_left_out(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["x"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["x", "", "scales"], ["up"]),
        helper.make_node("Add", ["image", "up"], ["y"]),  # only for even sides
    ]
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    ends = [value("image", ["n", 3, "h", "w"])], [value("y", ["n", 3, "h", "w"])]
    done = convert(save(tmp_path / "even.onnx", nodes, *ends, [weight("a", 3, 3, 3, 3), scales]))
    assert "image 1×3×224×224: pictures; image 2×3×160×192: pictures; image 5×3×224×224: pictures" in done.compared_on


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="other processors divide by -1 without a trap"
)
def test_a_crash_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quotient of these two fits no integer: the processor ends whoever asks for it, here while folding."""
    monkeypatch.undo()
    monkeypatch.setattr(onnx_session, "try_first", try_first)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Div", ["least", "minus"], ["q"])]
    weights = [weight("w", 8, 8), numpy_helper.from_array(np.int64(-(2**63)), "least")]
    weights.append(numpy_helper.from_array(np.int64(-1), "minus"))
    outputs = [value("m", [2, 8]), value("q", [], INT64)]
    source = save(tmp_path / "crash.onnx", nodes, [value("x", [2, 8])], outputs, weights)
    refused(source, ProcessFailed, r"crashed while converting crash\.onnx \(ended by SIGFPE\); .* nothing was written")
    with pytest.raises(ProcessFailed, match=r"crashed while ONNX Runtime .* \(cpu\) opened crash\.onnx"):
        open_model(source, provider=Provider.CPU)


def test_files_in_which_nothing_can_be_converted(tmp_path: Path) -> None:
    shape: list[int | str] = [1, 8]
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    source = save(tmp_path / "relu.onnx", relu, [value("x", shape)], [value("y", shape)], [])
    refused(source, ModelError, "has nothing to convert: no Conv or ConvTranspose or Gemm or MatMul in float32")
    double = [helper.make_node("MatMul", ["x", "x"], ["y"])]
    ends = [value("x", [8, 8], TensorProto.DOUBLE)], [value("y", [8, 8], TensorProto.DOUBLE)]
    refused(save(tmp_path / "double.onnx", double, *ends, []), ModelError, "nothing to convert")
    branch = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["m"])], "b", [], [value("m", None)])
    only = [helper.make_node("If", ["k"], ["y"], then_branch=branch, else_branch=branch)]
    inputs = [value("x", [8, 8]), value("k", [], TensorProto.BOOL)]
    source = save(tmp_path / "if.onnx", only, inputs, [value("y", [8, 8])], [weight("w", 8, 8)])
    refused(source, ModelError, "those inside If, Loop and Scan stay")


def test_files_that_are_not_float32_or_too_old(tmp_path: Path) -> None:
    half = convert(classifier(tmp_path / "whole.onnx")).path.rename(tmp_path / "once.onnx")
    refused(half, ModelError, "already computes in 16 bits")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    scale = [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.uint8(0), "zero")]
    ends = [value("x", [1, 8])], [value("y", [1, 8])]
    source = save(tmp_path / "int8.onnx", nodes, *ends, [*scale, weight("w", 8, 8)])
    refused(source, ModelError, r"is already quantized \(it has DequantizeLinear\)")
    old = save(
        tmp_path / "old.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], *ends, [weight("w", 8, 8)], opset=6
    )
    refused(old, ModelError, "has opset 6, expected 7 or later")


def test_misuse(tmp_path: Path) -> None:
    source = classifier(tmp_path / "whole.onnx")
    with pytest.raises(InputError, match="it is unknown how to prepare pictures for calibration"):
        convert_foreign(source, tmp_path / "x.onnx", precision=Precision.INT8)
    with pytest.raises(InputError, match=r"already an ONNX file.*--precision fp16"):
        convert_foreign(source, tmp_path / "x.onnx", precision=Precision.FP32)
    with pytest.raises(OutputError, match="expected an output file"):
        convert_foreign(source, source, precision=Precision.FP16)
    with pytest.raises(OutputError, match="no folder"):
        convert_foreign(source, tmp_path / "none" / "x.onnx", precision=Precision.FP16)
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    with pytest.raises(ModelError, match="not a model that ONNX Runtime can load"):
        is_foreign(text)


def test_an_output_that_is_no_tensor_cannot_be_compared(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("SplitToSequence", ["m"], ["s"])]
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    source = save(
        tmp_path / "s.onnx", nodes, [value("x", [8, 8])], [helper.make_value_info("s", kind)], [weight("w", 8, 8)]
    )
    refused(source, ModelError, "its output s is a list")


class Attention(torch.nn.Module):
    """A transformer's layer over word ids."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(100, 32)
        self.layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0)
        self.head = torch.nn.Linear(32, 100)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(b, n) → (b, n, 100)."""
        return self.head(self.layer(self.words(ids)))  # type: ignore[no-any-return]


def test_a_transformer_of_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = tmp_path / "attention.onnx"
    ids = torch.randint(0, 100, (2, 7))
    torch.onnx.export(Attention().eval(), (ids,), str(source), external_data=False, verbose=False)
    done = convert(source)
    assert done.parity and done.size_bytes < 0.8 * done.source_bytes
    session = ort.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    assert session.run(None, {session.get_inputs()[0].name: ids.numpy()})[0].dtype == np.float32


@pytest.mark.skipif(not YUNET.is_file(), reason="no YuNet here")
def test_yunet(tmp_path: Path) -> None:
    source = tmp_path / "yunet.onnx"
    source.write_bytes(YUNET.read_bytes())
    done = convert(source)
    assert len(done.parity.outputs) == 12 and done.size_bytes < 0.6 * done.source_bytes


def test_a_refusal_names_the_source_and_prints_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    halves = helper.make_node("Reshape", ["x", "shape"], ["y"])
    shape = numpy_helper.from_array(np.array([2, -1]), "shape")
    partial = save(tmp_path / ".mien-1.onnx", [halves], [value("x", ["n"])], [value("y", None)], [shape])
    for feed in ({"x": np.zeros(3, np.float32)}, {"x": np.zeros(4, np.int64)}):
        with pytest.raises(CheckFailed, match=r"a\.onnx does not run in fp16 \(it rejects these inputs") as told:
            list(foreign_float16._half_answers(tmp_path / "a.onnx", partial, [feed]))
        assert "mien-1" not in str(told.value)
    partial.write_bytes(partial.read_bytes()[:-9])
    with pytest.raises(CheckFailed, match=r"a\.onnx does not run in fp16 \(it is not a model that ONNX Runtime"):
        list(foreign_float16._half_answers(tmp_path / "a.onnx", partial, []))
    assert capfd.readouterr() == ("", "")
