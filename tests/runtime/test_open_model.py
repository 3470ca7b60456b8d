"""What is asked for runs, and auto takes the fastest that is ready."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mien.runtime import engine_runner, open_model
from mien.runtime.engine_cache import open_engine
from mien.runtime.errors import ModelError, ProviderError
from mien.runtime.fake_accelerator import fake_accelerator
from mien.runtime.pipeline import Pipeline
from mien.runtime.runner import Provider
from mien.runtime.shipped import shipped_model, shipped_models

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
    assert "no TensorRT engine of landmarks.onnx is built; mien engine" in caplog.text
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
        raise ProviderError("wanted TensorRT 10.3 to 11.x, found 8.6")

    monkeypatch.setattr(open_model, "find_accelerator", absent)
    with caplog.at_level(logging.INFO, logger="mien"), open_model.open_model(LANDMARKS) as runner:
        assert runner.provider in ("cpu", "cuda")
    assert "auto: no TensorRT (wanted TensorRT 10.3 to 11.x, found 8.6)" in caplog.text


def test_missing_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model"):
        open_model.open_model(tmp_path / "none.onnx")
