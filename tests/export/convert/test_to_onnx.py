from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mien.bench.data.sample_inputs import sample_batch
from mien.bench.parity.tolerances import TOLERANCES, Tolerance
from mien.bench.suite.benchmark import run_bench
from mien.bench.suite.options import BenchOptions
from mien.export.bridge import TorchBridge
from mien.export.convert import to_onnx
from mien.export.convert.to_onnx import export_onnx
from mien.export.networks.checkpoint import Checkpoint, save_checkpoint
from mien.export.networks.detector_net import OUTPUTS as DETECTOR_OUTPUTS
from mien.export.networks.detector_net import DetectorNet
from mien.export.networks.landmark_net import OUTPUTS, LandmarkNet
from mien.export.pytorch.eager_runner import open_checkpoint
from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.errors import CheckFailed, InputError, ModelError, OutputError
from mien.runtime.models.model_file import ModelFile
from mien.runtime.models.runner import Provider
from mien.runtime.models.spec import ModelSpec, Precision, Task


def save_untrained(path: Path, backbone: str) -> None:
    torch.manual_seed(0)
    net = LandmarkNet(backbone, input_size=64)
    spec = ModelSpec(Task.LANDMARKS, (64, 64), OUTPUTS, crop_scale=1.3, points="ibug68", dims=3)
    config = {"backbone": backbone, "normalization": "imagenet"}
    save_checkpoint(path, Checkpoint(spec, config, {}, net.state_dict()))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("landmarks") / "net.pt"
    save_untrained(path, "mobilenet_v3_small")
    return path


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Path:
    return export_onnx(checkpoint, checkpoint.with_suffix(".onnx")).path


def test_model_file_keeps_the_contract(model: Path) -> None:
    graph = onnx.load(model).graph
    (image,) = graph.input
    assert image.name == "image" and image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    shape = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
    assert shape == ["batch", 64, 64, 3]
    assert [o.name for o in graph.output] == list(OUTPUTS)
    assert [n.op_type for n in graph.node[:2]] == ["Cast", "Transpose"]  # TensorRT allows uint8 no other first layer
    assert not {"BatchNormalization", "Dropout", "Shape"} & {n.op_type for n in graph.node}
    assert not any(n.metadata_props or n.doc_string for n in graph.node)


def test_model_file_knows_itself_and_no_path(model: Path, checkpoint: Path) -> None:
    with OnnxRunner(model, provider=Provider.CPU) as runner:
        assert runner.spec.crop_scale == 1.3
        assert runner.spec.weights_sha256 == open_checkpoint(checkpoint).spec.weights_sha256
    content = model.read_bytes()
    assert str(Path(to_onnx.__file__).parent).encode() not in content and b"site-packages" not in content


def test_export_repeats_byte_by_byte(tmp_path: Path) -> None:
    save_untrained(tmp_path / "net.pt", "small")
    first, second = (export_onnx(tmp_path / "net.pt", tmp_path / f"{n}.onnx").path for n in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_any_batch_gives_what_pytorch_gives(model: Path, checkpoint: Path, batch: int) -> None:
    with OnnxRunner(model, provider=Provider.CPU, threads=1) as runner, open_checkpoint(checkpoint) as eager:
        images = sample_batch(runner.spec, batch)
        wanted, found = eager(images), runner(images)
    assert list(found) == list(OUTPUTS)
    for name in OUTPUTS:
        assert np.allclose(wanted[name], found[name], atol=1e-4)


def test_a_failed_gate_leaves_nothing(
    checkpoint: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, Precision.FP32, Tolerance(px=-1.0, years=0, score=0, logit=0))
    monkeypatch.setattr(to_onnx, "write_graph", lambda net, spec, path: path.write_bytes(model.read_bytes()))
    with pytest.raises(CheckFailed, match=r"parity check failed at batch 1.*not written"):
        export_onnx(checkpoint, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_export_into_nowhere(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder"):
        export_onnx(checkpoint, tmp_path / "none" / "m.onnx")
    with pytest.raises(ModelError, match="no checkpoint"):
        export_onnx(tmp_path / "none.pt", tmp_path / "m.onnx")


def test_weights_that_do_not_fit_their_configuration(tmp_path: Path) -> None:
    spec = ModelSpec(Task.LANDMARKS, (64, 64), OUTPUTS)
    config = {"backbone": "mobilenet_v3_small", "normalization": "imagenet"}
    save_checkpoint(tmp_path / "c.pt", Checkpoint(spec, config, {}, {"a": torch.zeros(1)}))
    with pytest.raises(ModelError, match="do not fit"):
        export_onnx(tmp_path / "c.pt", tmp_path / "m.onnx")


def test_detector_takes_any_multiple_of_32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = DetectorNet("small")
    net.head[-1].bias.data[:1] = 0.0  # type: ignore[union-attr] # an untrained score must be high enough to compare
    spec = ModelSpec(Task.DETECTOR, (96, 128), DETECTOR_OUTPUTS, classes=("face",))
    config = {"backbone": "small", "normalization": "imagenet"}
    save_checkpoint(tmp_path / "d.pt", Checkpoint(spec, config, {}, net.state_dict()))
    model = export_onnx(tmp_path / "d.pt", tmp_path / "d.onnx").path
    dims = [d.dim_param for d in onnx.load(model).graph.input[0].type.tensor_type.shape.dim[:3]]
    assert dims == ["batch", "height", "width"]
    rng = np.random.default_rng(0)
    with OnnxRunner(model, provider=Provider.CPU) as runner, open_checkpoint(tmp_path / "d.pt") as eager:
        for height, width in ((32, 32), (64, 160), (192, 320)):
            image = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
            wanted, found = eager(image), runner(image)
            assert found["boxes"].shape == (2, height * width * 21 // 1024, 4)
            assert np.allclose(wanted["boxes"], found["boxes"], atol=1e-2)


def test_bench_compares_with_eager_where_the_checkpoint_is(model: Path, tmp_path: Path) -> None:
    lonely = tmp_path / "lonely.onnx"
    lonely.write_bytes(model.read_bytes())
    report = run_bench([lonely, model], BenchOptions(rounds=5, processes=1, calls_per_round=2), bridge=TorchBridge())
    alone, eager, fast = report.rows
    assert alone.ratio is None and eager.ratio is None
    assert eager.measurement.description.provider == "eager-cpu" and fast.parity
    assert fast.ratio is not None and fast.ratio.value > 0
    assert fast.metadata.nodes and fast.metadata.overhead_us is not None and fast.metadata.peak_mib


def test_bench_of_a_checkpoint_exports_it_first(checkpoint: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_onnx, "write_graph", lambda net, spec, path: path.write_bytes(model.read_bytes()))
    report = run_bench(
        [checkpoint], BenchOptions(rounds=5, processes=1, calls_per_round=1, batches=(2,)), bridge=TorchBridge()
    )
    assert [row.measurement.description.batch for row in report.rows] == [2, 2]


def test_bench_tells_models_of_one_name_apart(model: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / model.name
    twin.write_bytes(model.read_bytes())
    report = run_bench([model, twin], BenchOptions(rounds=2, calls_per_round=1, baselines=()), bridge=TorchBridge())
    assert report.rows[1].measurement.description.model == "other/net"


def test_weights_beside_a_model_are_part_of_it(model: Path, tmp_path: Path) -> None:
    """As in the cache of a model hub: the names are links to files named by their digests."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "names").mkdir()
    graph = tmp_path / "blobs" / "abc"
    whole = onnx.load(model)
    onnx.save_model(whole, str(graph), save_as_external_data=True, location="net.data")
    graph.with_name("net.data").rename(graph.with_name("def"))
    for name, blob in (("net.onnx", "abc"), ("net.data", "def")):
        (tmp_path / "names" / name).symlink_to(tmp_path / "blobs" / blob)
    source = tmp_path / "names" / "net.onnx"
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    found = export_onnx(source, tmp_path / "net.onnx").path
    with OnnxRunner(model) as before, OnnxRunner(found) as after:
        assert np.array_equal(before(image)["landmarks"], after(image)["landmarks"])
    assert not ModelFile.of(found).external_weights
    digest = ModelFile.of(source).sha256
    weights = bytearray(graph.with_name("def").read_bytes())
    weights[len(weights) // 2] ^= 1
    graph.with_name("def").write_bytes(weights)
    assert ModelFile.of(source).sha256 != digest


def test_runner_refuses_other_batches(model: Path) -> None:
    with OnnxRunner(model, provider=Provider.CPU) as runner:
        with pytest.raises(InputError, match="expected a uint8 batch"):
            runner(np.zeros((1, 64, 64, 3), np.float32))  # type: ignore[arg-type]
        with pytest.raises(InputError, match="expected crops of 64 × 64"):
            runner(np.zeros((1, 32, 64, 3), np.uint8))
    with pytest.raises(InputError, match="closed"):
        runner(np.zeros((1, 64, 64, 3), np.uint8))


def test_files_beside_the_target_are_left_alone(
    checkpoint: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_onnx, "write_graph", lambda net, spec, path: path.write_bytes(model.read_bytes()))
    mine = tmp_path / "keep.partial.onnx"
    mine.write_bytes(b"mine")
    export_onnx(checkpoint, tmp_path / "keep.onnx")
    assert mine.read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["keep.onnx", "keep.partial.onnx"]
