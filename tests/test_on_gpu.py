"""On a machine with a GPU: ONNX Runtime's CUDA provider and TensorRT compute what the CPU computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mien.bench.data.sample_inputs import sample_batch  # noqa: E402
from mien.bench.parity.tolerances import compare_runners  # noqa: E402
from mien.export.gpu_report import HalfEagerRunner, report_on_gpu  # noqa: E402
from mien.export.networks.checkpoint import CHECKPOINTS  # noqa: E402
from mien.export.pytorch.eager_runner import EagerRunner  # noqa: E402
from mien.runtime.backends.ort.onnx_runner import OnnxRunner  # noqa: E402
from mien.runtime.backends.trt.engine_runner import EngineRunner  # noqa: E402
from mien.runtime.errors import ProviderError  # noqa: E402
from mien.runtime.faces.pipeline import Pipeline  # noqa: E402
from mien.runtime.models.runner import Provider, Runner  # noqa: E402
from mien.runtime.models.shipped import shipped_model  # noqa: E402
from mien.runtime.models.spec import Precision  # noqa: E402

MODELS = ("landmarks", "detector", "age_gender")
on_gpu = pytest.mark.gpu
skip_without_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(params=["plain", "binding", "graph", "tensorrt"])
def way(request: pytest.FixtureRequest, tmp_path: Path):
    """Opens a shipped model in one of the ways."""

    def open_way(name: str) -> Runner:
        model = shipped_model(name)
        try:
            if request.param == "tensorrt":
                return EngineRunner(model, folder=tmp_path)
            binding, graph = request.param != "plain", request.param == "graph"
            return OnnxRunner(model, provider=Provider.CUDA, io_binding=binding, cuda_graph=graph)
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
                parity = compare_runners(reference, runner, sample_batch(runner.spec, count, seed=seed))
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
    from mien.runtime.images import read_image

    picture = read_image(Path(__file__).parents[1] / "docs" / "overlay.jpg")
    with Pipeline.load(provider=Provider.CUDA) as cuda, Pipeline.load(provider=Provider.CPU) as cpu:
        np.testing.assert_allclose(cuda(picture).landmarks, cpu(picture).landmarks, atol=0.2)


def test_report_names_every_way_and_what_is_missing() -> None:
    """The script of the GPU report, tried on the CPU."""
    report = report_on_gpu([shipped_model("landmarks")], batches=(1,), rounds=6, calls=1, warm_up_calls=2, device="cpu")
    names = [row.name for row in report.rows]
    ways = [f"cpu{how}/{kind}" for kind in ("fp32", "fp16") for how in ("", "+binding", "+binding+graph")]
    assert names[:2] == ["landmarks/eager-cpu/fp32/1", "landmarks/eager-cpu/fp16/1"]
    assert set(names[2:]) >= {f"landmarks/{way}/1" for way in ways}
    assert all(row.parity for row in report.rows), [str(row.parity) for row in report.rows]
    assert all(row.ratio is not None for row in report.rows if row.baseline is not None)
    assert any("tensorrt fp16" in text for text in report.warnings) or "landmarks/tensorrt/fp16/1" in names


def test_eager_in_half_says_so() -> None:
    with EagerRunner(CHECKPOINTS / "landmarks.pt") as whole:
        half = HalfEagerRunner(CHECKPOINTS / "landmarks.pt", device="cpu")
        assert half.precision is Precision.FP16
        assert compare_runners(whole, half, sample_batch(whole.spec, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "none/gpu.json"], "no folder none to write gpu.json into"),
        (["--json", "gpu.json", "--batch", "1,x"], "--batch wants whole numbers"),
        (["--json", "gpu.json"], "PyTorch finds no CUDA device here"),
    ],
)
def test_report_that_cannot_be_made_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    import typer
    from typer.testing import CliRunner

    from mien.export import gpu_report

    app = typer.Typer()
    app.command()(gpu_report.main)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
