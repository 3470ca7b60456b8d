"""The engine runner on a stand-in whose streams only work when they are waited for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.backends.trt.cache import open_engine
from mien.runtime.backends.trt.engine_runner import MAX_SHAPES, EngineRunner
from mien.runtime.errors import InputError, ProviderError
from mien.runtime.models.input_shapes import Profile, profile_for
from mien.runtime.models.model_file import model_spec
from mien.runtime.models.runner import Provider
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import Precision
from mien.runtime.pipeline.pipeline import Pipeline
from mien.runtime.pipeline.pipeline_options import HIDING_MAX_SIDE
from mien.tests.fakes.fake_accelerator import fake_accelerator
from mien.tests.fakes.fake_cuda import CUDAError, Stream
from mien.tests.fakes.fake_engine import IExecutionContext

LANDMARKS = shipped_model("landmarks")


def batch_of(count: int, seed: int = 0, size: int = 112) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture
def runner(tmp_path: Path) -> EngineRunner:
    return EngineRunner(LANDMARKS, accelerator=fake_accelerator(), folder=tmp_path)


@pytest.fixture(scope="module")
def reference() -> OnnxRunner:
    return OnnxRunner(LANDMARKS, provider=Provider.CPU)


@pytest.mark.parametrize("count", [1, 3, 16, 17, 40])
def test_outputs_are_those_of_onnx_runtime(tmp_path: Path, reference: OnnxRunner, count: int) -> None:
    with EngineRunner(LANDMARKS, accelerator=fake_accelerator(), folder=tmp_path) as runner:
        for seed in range(3):  # the first call captures, later ones replay
            found, wanted = runner(batch_of(count, seed)), reference(batch_of(count, seed))
            assert list(found) == list(runner.spec.outputs)
            for name, value in wanted.items():
                np.testing.assert_allclose(found[name], value, atol=1e-5)


def test_outputs_belong_to_the_caller(runner: EngineRunner) -> None:
    first = runner(batch_of(2))
    kept = first["landmarks"].copy()
    runner(batch_of(2, seed=1))
    np.testing.assert_array_equal(first["landmarks"], kept)


def test_a_detector_takes_pictures_of_any_size(tmp_path: Path) -> None:
    model = shipped_model("detector")
    reference = OnnxRunner(model, provider=Provider.CPU)
    with EngineRunner(model, accelerator=fake_accelerator(), folder=tmp_path) as runner:
        for height, width in ((64, 96), (320, 320), (64, 96), (544, HIDING_MAX_SIDE)):
            picture = np.random.default_rng(1).integers(0, 255, (1, height, width, 3), dtype=np.uint8)
            np.testing.assert_allclose(runner(picture)["boxes"], reference(picture)["boxes"], atol=1e-3)
        with pytest.raises(InputError, match=r"the engine accepts batches of 1×32×32×3–.*found \(1, 992, 32, 3\)"):
            runner(np.zeros((1, 992, 32, 3), np.uint8))


def test_it_says_what_it_is(runner: EngineRunner) -> None:
    assert (runner.provider, runner.precision, runner.spec.task.value) == ("tensorrt", Precision.FP32, "landmarks")


@pytest.mark.parametrize("shape", [(1, 96, 112, 3), (0, 112, 112, 3)])
def test_other_shapes_are_refused(runner: EngineRunner, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="the engine accepts batches of"):
        runner(np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match="expected a uint8 batch"):
        runner(np.zeros((1, 112, 112, 3), np.float32))


@pytest.mark.parametrize("count", [1, 3, 4, 15, 17, 33])
def test_batches_beside_a_profile_are_run_in_parts_and_filled_up(
    tmp_path: Path, reference: OnnxRunner, count: int
) -> None:
    profile = profile_for(model_spec(LANDMARKS), batch=(4, 8, 16))
    open_engine(LANDMARKS, fake_accelerator(), profile=profile, folder=tmp_path)
    with EngineRunner(LANDMARKS, accelerator=fake_accelerator(), folder=tmp_path) as runner:
        found, wanted = runner(batch_of(count)), reference(batch_of(count))
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, atol=1e-5)


def test_closed_runner_is_refused(runner: EngineRunner) -> None:
    runner.close()
    runner.close()
    with pytest.raises(InputError, match="closed"):
        runner(batch_of(1))


def test_runner_that_is_closed_while_a_call_waits_says_so(runner: EngineRunner) -> None:
    class ClosedMeanwhile:
        def __enter__(self) -> None:
            runner._engine = None

        def __exit__(self, *_: object) -> None:
            pass

    runner._lock = ClosedMeanwhile()
    with pytest.raises(InputError, match="closed"):
        runner(batch_of(1))


def test_threads_share_a_runner(runner: EngineRunner, reference: OnnxRunner, in_threads) -> None:
    """CUDA has a current device a thread: one that never set it would fail."""
    wrong: list[int] = []

    def call(seed: int) -> None:
        for _ in range(5):
            found, wanted = runner(batch_of(1, seed)), reference(batch_of(1, seed))
            if not np.allclose(found["landmarks"], wanted["landmarks"], atol=1e-5):
                wrong.append(seed)

    in_threads(call)
    assert not wrong


def test_shapes_give_way_to_others(tmp_path: Path) -> None:
    profile = Profile((1, 112, 112, 3), (1, 112, 112, 3), (MAX_SHAPES + 4, 112, 112, 3))
    open_engine(LANDMARKS, fake_accelerator(), profile=profile, folder=tmp_path)
    with EngineRunner(LANDMARKS, accelerator=fake_accelerator(), folder=tmp_path) as runner:
        for count in [*range(1, MAX_SHAPES + 4), 1]:
            assert runner(batch_of(count))["presence"].shape == (count,)
        assert len(runner._slots) == MAX_SHAPES


def test_failure_of_cuda_is_told(runner: EngineRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Stream) -> None:
        raise CUDAError("CUDA_ERROR_LAUNCH_FAILED")

    monkeypatch.setattr(Stream, "sync", fail)
    with pytest.raises(ProviderError, match="CUDA failed while landmarks ran"):
        runner(batch_of(1))


def test_failure_of_a_call_is_told_and_ends_the_capture(runner: EngineRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = IExecutionContext.execute_async_v3
    calls: list[int] = []

    def second_fails(context: IExecutionContext, stream_handle: int) -> bool:
        calls.append(stream_handle)
        return len(calls) != 2 and runs(context, stream_handle)

    monkeypatch.setattr(IExecutionContext, "execute_async_v3", second_fails)
    with pytest.raises(ProviderError, match="could not run"):
        runner(batch_of(1))
    assert runner(batch_of(1))["presence"].shape == (1,)


def test_gpu_without_memory_is_told(tmp_path: Path) -> None:
    accelerator = fake_accelerator()
    with EngineRunner(LANDMARKS, accelerator=accelerator, folder=tmp_path) as runner:
        accelerator.device._machine.free = 1000
        with pytest.raises(ProviderError, match="OUT_OF_MEMORY"):
            runner(batch_of(1))


def test_a_whole_pipeline_runs_on_engines(tmp_path: Path) -> None:
    from mien.runtime.faces.detector import OwnDetector
    from mien.runtime.pictures.images import read_image

    picture = read_image(Path(__file__).parents[4] / "docs" / "overlay.jpg")
    machine = fake_accelerator()
    models = [
        EngineRunner(shipped_model(name), accelerator=machine, folder=tmp_path)
        for name in ("detector", "landmarks", "age_gender")
    ]
    float32 = Pipeline.load(provider=Provider.CPU, precision=Precision.FP32)
    with Pipeline(OwnDetector(models[0]), *models[1:]) as engines, float32 as sessions:
        found, wanted = engines(picture), sessions(picture)
        assert len(found) == len(wanted) > 0
        np.testing.assert_allclose(found.landmarks, wanted.landmarks, atol=0.05)
        np.testing.assert_allclose(found.age, wanted.age, atol=0.05)
