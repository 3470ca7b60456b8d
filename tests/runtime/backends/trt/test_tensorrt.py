"""NVIDIA's own parser and builder, where they are: ``make .tensorrt`` sets them up on any machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.runtime.backends.trt.cache import open_engine
from mien.runtime.backends.trt.device import Accelerator, Gpu, find_tensorrt
from mien.runtime.backends.trt.engine_builder import build_engine, engine_logger, load_engine, parse
from mien.runtime.backends.trt.layer_precision import check_types
from mien.runtime.errors import ModelError, ProviderError
from mien.runtime.models.input_shapes import profile_for
from mien.runtime.models.model_file import model_spec
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import Precision

pytestmark = pytest.mark.trt
MODELS = ("landmarks", "detector", "age_gender")


@pytest.fixture(scope="module")
def trt() -> Any:
    try:
        return find_tensorrt()
    except ProviderError:
        pytest.skip("TensorRT's builder is not set up: make .tensorrt")


@pytest.fixture(scope="module")
def in_half(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Exports a shipped checkpoint in fp16."""
    torch = pytest.importorskip("torch")
    from mien.export.convert.to_onnx import export_onnx
    from mien.export.networks.checkpoint import CHECKPOINTS

    assert torch

    def export(name: str) -> Path:
        target = tmp_path_factory.mktemp("half") / f"{name}.onnx"
        return export_onnx(CHECKPOINTS / f"{name}.pt", target, precision=Precision.FP16).path

    return export


@pytest.mark.parametrize("name", MODELS)
def test_shipped_model_builds_in_float(trt: Any, name: str) -> None:
    model = shipped_model(name)
    spec = model_spec(model)
    logger = engine_logger(trt)
    _, network = parse(trt, model, logger)
    image = network.get_input(0)
    assert (image.name, image.dtype, tuple(image.shape)[-1]) == ("image", trt.DataType.UINT8, 3)
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    assert tuple(o.name for o in outputs) == spec.outputs
    assert {o.dtype for o in outputs} == {trt.DataType.FLOAT}
    seen: list[float] = []
    built = build_engine(trt, model, profile_for(spec), progress=lambda _, fraction: seen.append(fraction))
    assert len(built.plan) > 0.8 * model.stat().st_size
    assert len(built.timing_cache) > 0
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert set(built.types) == {"FLOAT"}
    check_types(built.types, Precision.FP32, quantized=0, name=name)


@pytest.mark.parametrize("name", MODELS)
def test_shipped_model_builds_in_half(trt: Any, name: str, in_half: Callable[[str], Path]) -> None:
    model = in_half(name)
    built = build_engine(trt, model, profile_for(model_spec(model)))
    assert built.types["HALF"] > 40
    assert built.types.get("FLOAT", 0) <= 1, "the last layer may be in float"
    check_types(built.types, Precision.FP16, quantized=0, name=name)
    with pytest.raises(ProviderError, match="layers:"):
        check_types(built.types, Precision.FP32, quantized=0, name=name)
    whole = build_engine(trt, shipped_model(name), profile_for(model_spec(model)))
    assert len(built.plan) < 0.8 * len(whole.plan)


def test_converted_model_builds_in_half(trt: Any, tmp_path: Path) -> None:
    """Without the checkpoint: decoding stays in float, as TensorRT wants it."""
    pytest.importorskip("torch")
    from mien.export.convert.to_onnx import export_onnx

    model = export_onnx(shipped_model("detector"), tmp_path / "d.onnx", precision=Precision.FP16).path
    assert set(build_engine(trt, model, profile_for(model_spec(model))).types) == {"HALF"}


def test_int8_file_for_tensorrt_is_read_and_one_for_the_cpu_is_not(
    trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    import cv2

    from mien.export.convert.int8_options import Int8Options, TargetRuntime
    from mien.export.convert.to_onnx import export_onnx

    monkeypatch.setattr("mien.export.convert.int8.CALIBRATION_IMAGES", 40)
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    face = cv2.imread(str(Path(__file__).parents[4] / "docs" / "overlay.jpg"))
    for i in range(32):
        shifted = np.roll(face, int(rng.integers(-20, 20)), axis=1)
        cv2.imwrite(str(tmp_path / "pictures" / f"{i}.png"), shifted)
    for preset in (TargetRuntime.CPU, TargetRuntime.TENSORRT):
        options = Int8Options(tmp_path / "pictures", preset, allow_slow=True)
        target = tmp_path / f"{preset.value}.onnx"
        done = export_onnx(shipped_model("age_gender"), target, precision=Precision.INT8, int8=options)
    model = tmp_path / "tensorrt.onnx"
    _, network = parse(trt, model, engine_logger(trt))
    kinds = [network.get_layer(i).type for i in range(network.num_layers)]
    built = build_engine(trt, model, profile_for(model_spec(model)))
    assert kinds.count(trt.LayerType.QUANTIZE) >= built.types["INT8"] > 20
    # The one Gemm takes its bytes through a layer that shapes them, and is not known as int8.
    assert 46 - len(done.float_layers) - built.types["INT8"] in (0, 1)
    with pytest.raises(ModelError, match=r"TensorRT cannot read .*--target tensorrt"):
        parse(trt, tmp_path / "cpu.onnx", engine_logger(trt))


def test_file_that_is_no_onnx_is_told(trt: Any, tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="TensorRT cannot read"):
        build_engine(trt, tmp_path / "no.onnx", profile_for(model_spec(shipped_model("landmarks"))))


def test_profile_that_the_model_does_not_have_is_told(trt: Any) -> None:
    profile = profile_for(model_spec(shipped_model("detector")))
    with pytest.raises(ProviderError, match=r"could not build landmarks\.onnx .*imension") as told:
        build_engine(trt, shipped_model("landmarks"), profile)
    assert "--workspace-mb" not in str(told.value)


def test_workspace_that_is_too_small_is_told(trt: Any) -> None:
    model = shipped_model("landmarks")
    with pytest.raises(ProviderError, match=r"use more than --workspace-mb 1$"):
        build_engine(trt, model, profile_for(model_spec(model)), workspace_mb=1)


def test_float_is_float(trt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT would round float32 to the 10 bits of TF32, unasked."""
    configs: list[Any] = []
    real = trt.Builder.create_builder_config

    def create(builder: Any) -> Any:
        configs.append(real(builder))
        assert configs[-1].get_flag(trt.BuilderFlag.TF32), "the flag need not be cleared any more"
        return configs[-1]

    monkeypatch.setattr(trt.Builder, "create_builder_config", create)
    model = shipped_model("landmarks")
    build_engine(trt, model, profile_for(model_spec(model)))
    assert not configs[0].get_flag(trt.BuilderFlag.TF32)


def test_timings_of_another_machine_are_left_aside(trt: Any) -> None:
    model = shipped_model("landmarks")
    built = build_engine(trt, model, profile_for(model_spec(model)), timing_cache=b"of another machine " * 20)
    assert built.timing_cache != b"of another machine " * 20


@pytest.mark.parametrize("plan", [b"", b"not a plan", b"\0" * 5000])
def test_what_is_no_plan_is_none(trt: Any, plan: bytes) -> None:
    assert load_engine(trt, plan, engine_logger(trt)) is None


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="here is a GPU, and it may load")
def test_engine_that_cannot_be_loaded_is_our_error(trt: Any, tmp_path: Path) -> None:
    """Without a GPU the real library gives None for a plan that it has just built."""
    gpu = Gpu("none", "0.0", "none")
    accelerator = Accelerator(trt, device=None, pinned=None, gpu=gpu, errors=())
    with pytest.raises(
        ProviderError, match=r"does not load the engine that it built of landmarks\.onnx \(.*CUDA driver"
    ):
        open_engine(shipped_model("landmarks"), accelerator, folder=tmp_path)
    assert not list(tmp_path.glob("*.plan"))


def test_interrupt_ends_a_build(trt: Any) -> None:
    model = shipped_model("detector")
    steps: list[float] = []

    def interrupt(_: str, fraction: float) -> None:
        steps.append(fraction)
        if len(steps) == 5:
            os.kill(os.getpid(), 2)

    with pytest.raises(KeyboardInterrupt):
        build_engine(trt, model, profile_for(model_spec(model)), progress=interrupt)
    assert len(steps) < 100, "an uninterrupted build has some 500"
