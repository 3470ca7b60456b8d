"""Half precision and int8: half and a third of the size, and as much of the truth as was promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mien.bench.data.sample_inputs import Subset, sample_batch
from mien.bench.parity.compare_outputs import compare_outputs
from mien.bench.timing.speedup import Ratio
from mien.export.convert import gates, int8
from mien.export.convert.int8_layers import first_layers, last_nodes
from mien.export.convert.int8_options import Int8Options, TargetRuntime
from mien.export.convert.to_onnx import export_onnx
from mien.export.networks.checkpoint import Checkpoint, save_checkpoint
from mien.export.networks.half_precision import fold_batch_norms, to_half_precision
from mien.export.networks.landmark_net import OUTPUTS, LandmarkNet
from mien.export.networks.normalization import Normalization
from mien.export.networks.preprocessing import Preprocessing
from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.errors import CheckFailed, InputError, ModelError, OutputError
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import METADATA_KEY, ModelSpec, Precision, Task

SHIPPED = shipped_model("landmarks")


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "CALIBRATION_IMAGES", 40)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures to calibrate on: the demo camera's frames."""
    from mien.runtime.capture.demo_camera import DemoCamera
    from mien.runtime.pictures.images import write_image

    folder = tmp_path_factory.mktemp("pictures")
    camera = DemoCamera()
    for i in range(0, 120, 3):
        write_image(folder / f"{i}.png", camera.frame(i))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = LandmarkNet("small", input_size=64)
    spec = ModelSpec(Task.LANDMARKS, (64, 64), OUTPUTS, crop_scale=1.3, points="ibug68", dims=3)
    path = tmp_path_factory.mktemp("half") / "net.pt"
    config = {"backbone": "small", "normalization": "imagenet"}
    save_checkpoint(path, Checkpoint(spec, config, {}, net.state_dict()))
    return path


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> Path:
    return export_onnx(checkpoint, checkpoint.with_suffix(".onnx")).path


def save_convolutions(
    path: Path, size: int, weights: list[np.ndarray], *, precision: Precision = Precision.FP32
) -> Path:
    """A classifier of pictures size × size: one convolution after the other, then the means as logits."""
    helper, kinds = onnx.helper, onnx.TensorProto
    last = len(weights)
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=kinds.FLOAT),
        helper.make_node("Transpose", ["x"], ["y0"], perm=[0, 3, 1, 2]),
        *(
            helper.make_node("Conv", [f"y{i}", f"w{i}"], [f"y{i + 1}"], auto_pad="SAME_UPPER")
            for i, _ in enumerate(weights)
        ),
        helper.make_node("GlobalAveragePool", [f"y{last}"], ["p"]),
        helper.make_node("Flatten", ["p"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", kinds.UINT8, ["batch", size, size, 3])],
        [helper.make_tensor_value_info("logits", kinds.FLOAT, ["batch", len(weights[-1])])],
        [onnx.numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    spec = ModelSpec(Task.CLASSIFY, (size, size), ("logits",), provenance={"precision": precision.value})
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.save(model, str(path))
    return path


def copy_instead(whole: Path, target: Path, *_: object, **__: object) -> None:
    """In place of `quantize`, where something else decides what becomes of the file."""
    target.write_bytes(whole.read_bytes())


def test_folding_changes_nothing() -> None:
    torch.manual_seed(0)
    net = LandmarkNet("mobilenet_v2_lean", input_size=64).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    image = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        before = net(image)[0]
        fold_batch_norms(net)
        after = net(image)[0]
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
    assert torch.allclose(before, after, atol=1e-5)


def test_the_half_network_normalises_in_full() -> None:
    net = to_half_precision(LandmarkNet("mobilenet_v2_lean", input_size=64))
    prologue = next(m for m in net.modules() if isinstance(m, Preprocessing))
    assert prologue.mean.dtype is torch.float32
    assert prologue(torch.zeros(1, 8, 8, 3, dtype=torch.uint8)).dtype is torch.float16
    assert {p.dtype for p in net.parameters()} == {torch.float16}
    assert Preprocessing(Normalization.IMAGENET)(torch.zeros(1, 8, 8, 3, dtype=torch.uint8)).dtype is torch.float32


@pytest.mark.parametrize("from_model_file", [False, True])
def test_fp16_is_half_the_size_and_keeps_its_word(
    checkpoint: Path, whole: Path, tmp_path: Path, from_model_file: bool
) -> None:
    source = whole if from_model_file else checkpoint
    done = export_onnx(source, tmp_path / "half.onnx", precision=Precision.FP16)
    assert done.size_bytes < 0.55 * whole.stat().st_size and all(done.parities)
    with OnnxRunner(done.path) as runner:
        assert runner.precision is Precision.FP16
        outputs = runner(sample_batch(runner.spec, 2))
    assert {v.dtype for v in outputs.values()} == {np.dtype(np.float32)}
    weights = {t.data_type for t in onnx.load(done.path).graph.initializer if np.prod(t.dims) > 1000}
    assert weights == {onnx.TensorProto.FLOAT16}
    with pytest.raises(ModelError, match="is fp16; convert from the float32 file"):
        export_onnx(done.path, tmp_path / "again.onnx")


def test_what_overflows_on_a_gpu_alone_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime's CPU computes halves in float32, where 1e6 between two layers does no harm."""
    large, small = np.full((4, 3, 1, 1), 2.0**13, np.float32), np.full((2, 4, 1, 1), 2.0**-20, np.float32)
    save_convolutions(tmp_path / "whole.onnx", 16, [large, small])
    with pytest.raises(CheckFailed, match=r"parity check failed at batch 1: max (nan|inf)"):
        export_onnx(tmp_path / "whole.onnx", tmp_path / "half.onnx", precision=Precision.FP16)
    assert [p.name for p in tmp_path.iterdir()] == ["whole.onnx"]


def test_int8_of_the_shipped_model(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "_speed_up", lambda *_: Ratio(1.4, 1.3, 1.5, 20))
    options = Int8Options(photographs)
    done = export_onnx(SHIPPED, tmp_path / "int8.onnx", precision=Precision.INT8, int8=options)
    assert done.size_bytes < 0.4 * SHIPPED.stat().st_size and all(done.parities)
    model = onnx.load(done.path)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {n.op_type for n in model.graph.node}
    with OnnxRunner(done.path) as runner:
        assert runner.precision is Precision.INT8 and runner.spec.task is Task.LANDMARKS


def test_boxes_of_int8_reach_further_than_the_pictures_that_calibrated_it(photographs: Path, tmp_path: Path) -> None:
    detector = shipped_model("detector")
    with OnnxRunner(detector) as reference:
        images = sample_batch(reference.spec, 4, data=photographs, seed=0)
        int8.quantize(detector, tmp_path / "d.onnx", images, runtime=TargetRuntime.CPU, float_layers=frozenset())
        int8._set_spec(tmp_path / "d.onnx", reference.spec)
        wide = np.concatenate([np.zeros_like(images), images], axis=2)
        wanted = reference(wide)
        assert wanted["boxes"][wanted["scores"] > 0.5][:, 2].max() > 1.2 * images.shape[2]
        with OnnxRunner(tmp_path / "d.onnx") as quantized:
            parity = compare_outputs(reference.spec, Precision.INT8, wanted, quantized(wide))
    assert parity, parity


def test_the_first_and_last_layers_and_the_decoding_are_found() -> None:
    node = onnx.helper.make_node
    nodes = [
        node("Cast", ["image"], ["x"], name="cast", to=onnx.TensorProto.FLOAT),
        node("Conv", ["x", "w"], ["a"], name="left"),
        node("Conv", ["x", "w"], ["b"], name="right"),
        node("Relu", ["a"], ["c"], name="relu"),
        node("Conv", ["c", "w"], ["d"], name="inner"),
        node("Add", ["d", "b"], ["e"], name="residual"),
        node("Conv", ["e", "w"], ["f"], name="head"),
        node("Add", ["f", "grid"], ["boxes"], name="decode"),
        node("Conv", ["e", "w"], ["g"], name="heat maps"),
        node("Reshape", ["g", "shape"], ["h"], name="flat"),
        node("Softmax", ["h"], ["i"], name="softmax"),
        node("MatMul", ["i", "grid"], ["points"], name="expectation"),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [], [])
    assert first_layers(graph) == {"left", "right"}
    assert last_nodes(graph) == {"head", "decode", "flat", "softmax", "expectation"}


def test_int8_for_tensorrt_is_symmetric(photographs: Path, tmp_path: Path) -> None:
    options = Int8Options(photographs, TargetRuntime.TENSORRT)
    done = export_onnx(SHIPPED, tmp_path / "int8.onnx", precision=Precision.INT8, int8=options)
    assert done.speed_up is None  # its speed on a CPU says nothing
    graph = onnx.load(done.path).graph
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    zeros = [values[n.input[2]] for n in graph.node if n.op_type == "QuantizeLinear"]
    assert zeros and all(z.dtype == np.int8 and not z.any() for z in zeros)


@pytest.mark.parametrize(("float32_layers", "int8_layers"), [(20, 2), (2, 20)])
def test_the_file_with_fewer_layers_is_measured_to_be_faster(
    tmp_path: Path, float32_layers: int, int8_layers: int
) -> None:
    """By the real measurement, which the other tests replace: a file that is slow must not pass as fast."""
    first, inner = np.full((16, 3, 3, 3), 0.01, np.float32), np.full((16, 16, 3, 3), 0.01, np.float32)
    float32, quantized = (
        save_convolutions(tmp_path / precision.value, 48, [first, *[inner] * (layers - 1)], precision=precision)
        for precision, layers in ((Precision.FP32, float32_layers), (Precision.INT8, int8_layers))
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8)
    speed_up = int8._speed_up(float32, quantized, images).value
    assert speed_up > 2 if float32_layers > int8_layers else speed_up < 0.5


def test_slow_int8_is_refused_with_the_figure(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "quantize", copy_instead)
    monkeypatch.setattr(int8, "_speed_up", lambda *_: Ratio(0.48, 0.47, 0.5, 20))
    with pytest.raises(CheckFailed, match=r"int8 is 0\.48× \(0\.47–0\.50\) as fast"):
        export_onnx(SHIPPED, tmp_path / "i.onnx", precision=Precision.INT8, int8=Int8Options(photographs))
    assert not list(tmp_path.iterdir())
    options = Int8Options(photographs, allow_slow=True)
    assert export_onnx(SHIPPED, tmp_path / "i.onnx", precision=Precision.INT8, int8=options).speed_up is not None


def test_layers_that_break_parity_stay_in_float(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "_speed_up", lambda *_: Ratio(1.4, 1.3, 1.5, 20))
    real, calls = gates.check_parity, []

    def strict(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) < 3:
            raise CheckFailed("not yet")
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(gates, "check_parity", strict)
    done = export_onnx(SHIPPED, tmp_path / "i.onnx", precision=Precision.INT8, int8=Int8Options(photographs))
    assert len(done.float_layers) == 2  # one, then two
    graph = onnx.load(done.path).graph
    by_name = {n.name: n for n in graph.node}
    for name in done.float_layers:
        weights = by_name[name].input[1]
        assert not weights.endswith("DequantizeLinear_Output"), name


def test_no_more_than_half_of_the_layers_stay_in_float(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def watched(*arguments: object, float_layers: frozenset[str], **options: object) -> None:
        tried.append(len(float_layers))
        copy_instead(*arguments)  # type: ignore[arg-type]

    def never(*_: object, **__: object) -> None:
        raise CheckFailed("not yet")

    monkeypatch.setattr(int8, "quantize", watched)
    monkeypatch.setattr(gates, "check_parity", never)
    monkeypatch.setattr(int8, "layers_by_sensitivity", lambda *_: ["node_conv2d", *(f"layer{i}" for i in range(10))])
    with pytest.raises(CheckFailed, match=r"not yet \(with 5 of 11 layers left in float\)"):
        export_onnx(SHIPPED, tmp_path / "i.onnx", precision=Precision.INT8, int8=Int8Options(photographs))
    assert tried == [0, 1, 2, 4, 5] and not list(tmp_path.iterdir())


def test_a_full_temporary_folder_is_not_blamed_on_the_output(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(OutputError, match=r"cannot write temporary files in .* \(No space left on device\)"):
        export_onnx(SHIPPED, tmp_path / "i.onnx", precision=Precision.INT8, int8=Int8Options(photographs))
    assert not list(tmp_path.iterdir())


def test_few_pictures_calibrate_nothing(photographs: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photographs.iterdir())[:31]:
        (few / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="expected at least 32 different pictures to calibrate on, found 31"):
        export_onnx(SHIPPED, tmp_path / "i.onnx", precision=Precision.INT8, int8=Int8Options(few))


@pytest.mark.parametrize("other", [False, True])
def test_int8_is_judged_on_other_pictures_than_those_that_made_it(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: bool
) -> None:
    drawn: list[tuple[Path | None, Subset]] = []

    def watched(*_: object, data: Path | None, subset: Subset, **__: object) -> None:
        drawn.append((data, subset))
        raise InputError("seen")

    monkeypatch.setattr(int8, "quantize", copy_instead)
    monkeypatch.setattr("mien.export.convert.gates.sample_batch", watched)
    data = tmp_path if other else None
    with pytest.raises(InputError, match="seen"):
        export_onnx(SHIPPED, tmp_path / "i.onnx", data=data, precision=Precision.INT8, int8=Int8Options(photographs))
    assert drawn == [(tmp_path, Subset.ALL) if other else (photographs, Subset.GATE)]


def test_shares_have_no_picture_in_common() -> None:
    rng = np.random.default_rng(0)
    made, judged = (set(subset.draw(40, 200, rng).tolist()) for subset in (Subset.CALIBRATION, Subset.GATE))
    assert len(made) == 30 and len(judged) == 10 and not made & judged


def test_int8_needs_pictures_and_only_int8_does(checkpoint: Path, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--calibrate DIR"):
        export_onnx(checkpoint, tmp_path / "m.onnx", precision=Precision.INT8)
    with pytest.raises(InputError, match="--calibrate is for int8"):
        export_onnx(checkpoint, tmp_path / "m.onnx", int8=Int8Options(photographs))
