"""What is asked for runs, and auto takes the fastest that is ready."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail

from mien.runtime.backends import open_runner as open_model
from mien.runtime.backends.ort import onnx_session
from mien.runtime.backends.ort.cuda_libraries import captured_stdout
from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.backends.trt import engine_runner
from mien.runtime.backends.trt.cache import open_engine
from mien.runtime.errors import InputError, ModelError, ProcessFailed, ProviderError
from mien.runtime.models.model_file import ModelFile
from mien.runtime.models.runner import Provider
from mien.runtime.models.shipped import shipped_model, shipped_models
from mien.runtime.pipeline.pipeline import Pipeline
from mien.tests.fakes.fake_accelerator import fake_accelerator

LANDMARKS = shipped_model("landmarks")


@pytest.fixture
def with_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with TensorRT, and an empty cache."""
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path))
    monkeypatch.setattr(open_model, "find_accelerator", fake_accelerator)
    monkeypatch.setattr(engine_runner, "find_accelerator", fake_accelerator)
    return tmp_path


def test_auto_never_builds_an_engine_by_surprise(with_gpu: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="mien"), open_model.open_model(LANDMARKS) as runner:
        assert runner.provider == "cpu"
    assert "no TensorRT engine of landmarks.onnx can be loaded (none was built yet); mien engine" in caplog.text
    assert not list(with_gpu.rglob("*.plan"))


def test_auto_takes_an_engine_that_is_there(with_gpu: Path) -> None:
    open_engine(LANDMARKS, fake_accelerator())
    with open_model.open_model(LANDMARKS) as runner:
        assert runner.provider == "tensorrt"


def test_tensorrt_builds_what_it_needs(with_gpu: Path) -> None:
    with Pipeline.load(provider=Provider.TENSORRT) as pipeline:
        assert pipeline.landmarks.provider == "tensorrt"
    assert len(list((with_gpu / "engines").glob("*.plan"))) == len(shipped_models()) == 3


def test_tensorrt_is_tensorrt_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise ProviderError("TensorRT is not installed")

    monkeypatch.setattr(engine_runner, "find_accelerator", absent)
    with pytest.raises(ProviderError, match="not installed"):
        open_model.open_model(LANDMARKS, provider=Provider.TENSORRT)


def test_auto_without_tensorrt_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def absent() -> None:
        raise ProviderError("expected TensorRT 10.3 to 11.x, found 8.6")

    monkeypatch.setattr(open_model, "find_accelerator", absent)
    with caplog.at_level(logging.INFO, logger="mien"), open_model.open_model(LANDMARKS) as runner:
        assert runner.provider in ("cpu", "cuda")
    assert "auto: no TensorRT (expected TensorRT 10.3 to 11.x, found 8.6)" in caplog.text


def test_missing_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model"):
        open_model.open_model(tmp_path / "none.onnx")


def test_auto_goes_on_where_tensorrt_refuses_the_engine_that_is_kept(
    with_gpu: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_engine(LANDMARKS, fake_accelerator())
    caplog.clear()
    monkeypatch.setattr("mien.runtime.backends.trt.cache.load_engine", lambda *_: None)
    with open_model.open_model(LANDMARKS) as runner:
        assert runner.provider == "cpu"
    assert "auto: no TensorRT engine of landmarks.onnx can be loaded (TensorRT does not load" in caplog.text
    assert "building" not in caplog.text


def test_auto_goes_on_where_an_engine_does_not_run(
    with_gpu: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_engine(LANDMARKS, fake_accelerator())
    monkeypatch.setattr(open_model, "find_accelerator", lambda: fake_accelerator(memory_mb=0))
    with open_model.open_model(LANDMARKS) as runner:
        assert runner.provider == "cpu"
    assert "auto: CUDA failed while landmarks ran (CUDA_ERROR_OUT_OF_MEMORY)" in caplog.text


# ONNX Runtime on a GPU that fails. Its sessions are stand-ins.


class OnCuda:
    """A session on the CPU that takes itself for one on CUDA, whose calls fail."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def run(self, *_: object) -> None:
        raise Fail("CUDA failure 209: no kernel image is available for execution on the device")


def refuses(_: Any, options: Mapping[str, str]) -> Any:
    raise EPFail("CUDA failure 2: out of memory")


def fails_in_calls(session: Any, options: Mapping[str, str]) -> Any:
    return OnCuda(session)


def captures_nothing(session: Any, options: Mapping[str, str]) -> Any:
    if options.get("enable_cuda_graph") == "1":
        raise Fail("This session cannot use the graph capture feature: nodes are not on CUDAExecutionProvider")
    return OnCuda(session)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any, Mapping[str, str]], Any]], None]:
    """Makes ONNX Runtime open sessions on CUDA in the way given."""
    real = ort.InferenceSession

    def set_up(open_on_cuda: Callable[[Any, Mapping[str, str]], Any]) -> None:
        def open_session(path: str, options: Any, *, providers: list[Any]) -> Any:
            if providers[0] == "CPUExecutionProvider":
                return real(path, options, providers=providers)
            return open_on_cuda(real(path, options, providers=["CPUExecutionProvider"]), providers[0][1])

        monkeypatch.setattr(onnx_session.ort, "InferenceSession", open_session)

    compiled = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnx_session.ort, "get_available_providers", lambda: compiled)
    monkeypatch.setattr(onnx_session, "preload", lambda: None)
    return set_up


@pytest.mark.parametrize(
    ("way", "told"),
    [
        (refuses, r"auto: cuda failed to open landmarks\.onnx \(CUDA failure 2: out of memory\)"),
        (fails_in_calls, r"auto: cuda failed while landmarks ran \(CUDA failure 209: no kernel image"),
    ],
)
def test_auto_goes_on_where_cuda_fails(cuda, way, told: str, caplog: pytest.LogCaptureFixture) -> None:
    cuda(way)
    with open_model.open_model(LANDMARKS) as runner:
        assert runner.provider == "cpu"
        assert runner(np.zeros((1, 112, 112, 3), np.uint8))["presence"].shape == (1,)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert re.match(told, warning), warning


def test_auto_goes_on_where_a_model_crashes_cuda(cuda, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    def crash(model: ModelFile, *, runtime: str, **_: Any) -> None:
        if "cuda" in runtime:
            raise ProcessFailed("crashed while ONNX Runtime opened it")

    monkeypatch.setattr(onnx_session, "try_first", crash)
    cuda(fails_in_calls)
    with open_model.open_model(LANDMARKS) as runner:
        assert runner.provider == "cpu"
    assert "auto: crashed while ONNX Runtime opened it" in caplog.text


def test_a_first_try_that_fails_in_its_call_blames_the_gpu_or_else_the_file(cuda, monkeypatch) -> None:
    cuda(fails_in_calls)
    with pytest.raises(ProviderError, match=r"cuda failed to run landmarks\.onnx .*no kernel image"):
        onnx_session._open_once(ModelFile.of(LANDMARKS), Provider.CUDA)
    monkeypatch.setattr(onnx_session, "INPUT", "pixels")
    with pytest.raises(ModelError, match=r"landmarks\.onnx cannot be run on a picture \(.*image"):
        onnx_session._open_once(ModelFile.of(LANDMARKS), Provider.CPU)


def test_threads_that_open_models_leave_standard_output_alone() -> None:
    before, both = sys.stdout, threading.Barrier(2)

    def capture(longer: bool) -> None:
        both.wait()
        with captured_stdout() as said:
            print("said")
            time.sleep(0.02 * longer)
        assert said.getvalue() == "said\n"

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(capture, [True, False]))
    assert sys.stdout is before


@pytest.mark.parametrize("shape", [(1, 100, 100, 3), (1, 64, 65, 3)])
def test_a_detector_says_which_sizes_it_takes(shape: tuple[int, ...]) -> None:
    with OnnxRunner(shipped_model("detector")) as runner, pytest.raises(InputError, match="multiples of 32 px, found"):
        runner(np.zeros(shape, np.uint8))


def test_cuda_that_cannot_open_a_model_does_not_blame_the_file(cuda) -> None:
    cuda(refuses)
    with pytest.raises(ProviderError, match=r"cuda failed to open landmarks\.onnx .*out of memory.*nvidia-smi"):
        open_model.open_model(LANDMARKS, provider=Provider.CUDA)


def test_cuda_that_fails_in_a_call_is_our_error(cuda) -> None:
    cuda(fails_in_calls)
    with open_model.open_model(LANDMARKS, provider=Provider.CUDA) as runner:
        assert runner.provider == "cuda"
        with pytest.raises(ProviderError, match=r"cuda failed while landmarks ran .*no kernel image"):
            runner(np.zeros((1, 112, 112, 3), np.uint8))


def test_model_that_cannot_be_captured_runs_without_a_graph(cuda, caplog: pytest.LogCaptureFixture) -> None:
    cuda(captures_nothing)
    with caplog.at_level(logging.INFO, logger="mien"):
        opened = onnx_session.open_session(LANDMARKS, provider=Provider.CUDA, threads=1)
    assert not opened.cuda_graph
    assert "no CUDA graph" in caplog.text


@pytest.mark.parametrize("provider", [Provider.AUTO, Provider.CUDA])
def test_file_that_is_no_model_is_blamed_on_a_gpu_too(cuda, provider: Provider, tmp_path: Path) -> None:
    cuda(fails_in_calls)
    (tmp_path / "no.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="is not a model that ONNX Runtime can load"):
        open_model.open_model(tmp_path / "no.onnx", provider=provider)


def test_auto_is_chosen_by_open_model_alone() -> None:
    with pytest.raises(ProviderError, match="open the model with open_model"):
        OnnxRunner(LANDMARKS, provider=Provider.AUTO)


@pytest.mark.parametrize(("precision", "fp16", "int8"), [("fp32", "0", "0"), ("fp16", "1", "0"), ("int8", "0", "1")])
def test_tensorrt_within_onnx_runtime_computes_in_the_file_s_numbers(
    with_gpu: Path, monkeypatch: pytest.MonkeyPatch, precision: str, fp16: str, int8: str
) -> None:
    model = ModelFile.of(LANDMARKS)
    spec = model.spec
    changed = replace(spec, provenance=dict(spec.provenance) | {"precision": precision})
    monkeypatch.setattr(ModelFile, "metadata", changed)
    options = onnx_session._tensorrt_options(model)
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == (fp16, int8)
    assert Path(options["trt_engine_cache_path"]) == with_gpu / "onnxruntime" / model.sha256[:16]
    assert Path(options["trt_engine_cache_path"]).is_dir()
