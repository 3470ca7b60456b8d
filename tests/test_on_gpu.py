"""On a machine with a GPU: ONNX Runtime's CUDA provider and TensorRT compute what the CPU computes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mien.bench.data.sample_inputs import sample_batch  # noqa: E402
from mien.bench.parity.compare_outputs import compare_outputs  # noqa: E402
from mien.bench.suite.benchmark import run_bench  # noqa: E402
from mien.bench.suite.options import Baseline, BenchOptions  # noqa: E402
from mien.export.bridge import TorchBridge  # noqa: E402
from mien.runtime.backends.ort.io_binding import CallMode  # noqa: E402
from mien.runtime.backends.ort.onnx_runner import OnnxRunner  # noqa: E402
from mien.runtime.backends.trt.engine_runner import EngineRunner  # noqa: E402
from mien.runtime.errors import ProviderError  # noqa: E402
from mien.runtime.models.runner import Provider, Runner  # noqa: E402
from mien.runtime.models.shipped import shipped_model  # noqa: E402
from mien.runtime.models.spec import Precision  # noqa: E402
from mien.runtime.pipeline.pipeline import Pipeline  # noqa: E402

MODELS = ("landmarks", "detector", "age_gender")
on_gpu = pytest.mark.gpu
skip_without_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(params=[*CallMode, "tensorrt"])
def way(request: pytest.FixtureRequest, tmp_path: Path):
    """Opens a shipped model in one of the ways; only TensorRT may be missing."""

    def open_way(name: str) -> Runner:
        model = shipped_model(name)
        if request.param in list(CallMode):
            runner = OnnxRunner(model, provider=Provider.CUDA, mode=request.param)
            assert runner.mode is request.param, "not every node runs on CUDA, so that no graph is captured"
            return runner
        try:
            return EngineRunner(model, folder=tmp_path)
        except ProviderError as error:
            pytest.skip(str(error))

    return open_way


@on_gpu
@skip_without_gpu
@pytest.mark.parametrize("name", MODELS)
def test_gpu_computes_what_the_cpu_computes(way, name: str) -> None:
    with way(name) as runner, OnnxRunner(shipped_model(name), provider=Provider.CPU) as reference:
        for count in (1,) if name == "detector" else (1, 5, 1):
            for seed in range(3):
                batch = sample_batch(runner.spec, count, seed=seed)
                parity = compare_outputs(runner.spec, runner.precision, reference(batch), runner(batch))
                assert parity, str(parity)


@on_gpu
@skip_without_gpu
def test_threads_share_a_runner_on_the_gpu(way, in_threads) -> None:
    with way("landmarks") as runner, OnnxRunner(shipped_model("landmarks"), provider=Provider.CPU) as reference:
        batches = [sample_batch(runner.spec, count, seed=count) for count in (1, 2, 3, 4)]
        wanted = [reference(batch)["landmarks"] for batch in batches]
        wrong = []

        def call(i: int) -> None:
            for _ in range(50):
                if not np.allclose(runner(batches[i])["landmarks"], wanted[i], atol=5e-4):
                    wrong.append(i)

        in_threads(call)
        assert not wrong


@on_gpu
@skip_without_gpu
def test_a_whole_pipeline_on_cuda() -> None:
    from mien.runtime.pictures.images import read_image

    picture = read_image(Path(__file__).parents[1] / "docs" / "overlay.jpg")
    load = partial(Pipeline.load, precision=Precision.FP32)
    with load(provider=Provider.CUDA) as cuda, load(provider=Provider.CPU) as cpu:
        np.testing.assert_allclose(cuda(picture).landmarks, cpu(picture).landmarks, atol=0.2)


@on_gpu
@skip_without_gpu
def test_threads_share_a_pipeline_on_cuda(in_threads) -> None:
    """One thread captures the graph of a shape while others open, call and close sessions of their own."""
    from mien.runtime.pictures.images import read_image

    picture = read_image(Path(__file__).parents[1] / "docs" / "overlay.jpg")
    pictures = [picture[:, : 544 + 32 * k].copy() for k in range(4)]
    load = partial(Pipeline.load, precision=Precision.FP32)
    with load(provider=Provider.CPU) as cpu:
        wanted = [cpu(one).landmarks for one in pictures]
    assert all(len(faces) for faces in wanted)
    with load(provider=Provider.CUDA) as shared:

        def call(i: int) -> None:
            for k in range(8):
                one = (i + k) % 4
                np.testing.assert_allclose(shared(pictures[one]).landmarks, wanted[one], atol=0.2)
            with load(provider=Provider.CUDA) as own:
                np.testing.assert_allclose(own(pictures[i]).landmarks, wanted[i], atol=0.2)

        in_threads(call)


@on_gpu
@skip_without_gpu
def test_bench_measures_eager_and_cuda_on_the_gpu() -> None:
    options = BenchOptions(
        rounds=5,
        calls_per_round=2,
        processes=1,
        baselines=(Baseline.EAGER, Baseline.EAGER_FP16),
        providers=(Provider.CUDA,),
    )
    report = run_bench([shipped_model("landmarks")], options, bridge=TorchBridge())
    names = [f"landmarks/{way}/1" for way in ("eager-cuda/fp32", "cuda/fp32", "eager-fp16-cuda/fp16")]
    assert [row.name for row in report.rows] == names and all(row.parity for row in report.rows[1:])
