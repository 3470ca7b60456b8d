"""Models as they are named on the command line: what is asked for runs, or there is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

import mien
from mien.bench.commands.evaluate import opener_of
from mien.cli import app
from mien.export.bridge import TorchBridge
from mien.export.networks.checkpoint import CHECKPOINTS
from mien.runtime.errors import ProviderError
from mien.runtime.models.runner import Provider

ROOT = Path(mien.__file__).parent
LANDMARKS = CHECKPOINTS / "landmarks.pt"
ON_THE_CPU = (Provider.AUTO, Provider.CPU)
open_runner = opener_of(TorchBridge())


@pytest.mark.parametrize("provider", ON_THE_CPU)
def test_a_checkpoint_is_evaluated_in_pytorch_on_the_cpu(provider: Provider) -> None:
    with open_runner(LANDMARKS, provider=provider, threads=1) as runner:
        assert runner.provider == "eager-cpu"


@pytest.mark.parametrize("provider", [p for p in Provider if p not in ON_THE_CPU])
def test_a_checkpoint_runs_on_nothing_else(provider: Provider) -> None:
    with pytest.raises(ProviderError, match=f"{provider.value} needs a model file, .* is a checkpoint.*mien export"):
        open_runner(LANDMARKS, provider=provider, threads=1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", str(LANDMARKS)],
        ["predict", "docs/overlay.jpg", "--model", str(LANDMARKS)],
        ["webcam", "demo", "--no-show", "--model", str(LANDMARKS)],
        ["evaluate", "landmarks", "--data", ".", "--model", str(LANDMARKS), "--provider", "cuda"],
    ],
)
def test_a_checkpoint_is_refused_with_the_command_that_exports_it(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 and not done.stdout
    told = " ".join(done.stderr.split())
    assert "is a checkpoint" in told and "mien export" in told


def test_a_suffix_is_read_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "FACE.PT").write_bytes(LANDMARKS.read_bytes())
    with open_runner(tmp_path / "FACE.PT", provider=Provider.CPU, threads=1) as runner:
        assert runner.provider == "eager-cpu"


def test_a_model_file_is_converted_whatever_its_suffix_s_case(tmp_path: Path) -> None:
    from mien.export.convert.to_onnx import export_onnx
    from mien.runtime.models.shipped import shipped_model

    (tmp_path / "FACE.ONNX").write_bytes(shipped_model("landmarks").read_bytes())
    assert export_onnx(tmp_path / "FACE.ONNX", tmp_path / "same.onnx").path.is_file()
