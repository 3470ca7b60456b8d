"""mien engine and mien info on a machine with a stand-in for TensorRT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mien.cli import app
from mien.runtime.backends.trt import device as accelerator
from mien.runtime.backends.trt import engine_runner
from mien.runtime.models.shipped import shipped_model
from mien.tests.fakes.fake_accelerator import fake_accelerator

LANDMARKS = str(shipped_model("landmarks"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path))
    monkeypatch.setattr(accelerator, "find_accelerator", fake_accelerator)
    monkeypatch.setattr(engine_runner, "find_accelerator", fake_accelerator)
    return tmp_path


def test_engines_of_all_shipped_models_are_built(cache: Path) -> None:
    done = CliRunner().invoke(app, ["engine"])
    assert done.exit_code == 0, done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert [p.stem.rpartition("-")[0] for p in paths] == ["age_gender", "detector", "landmarks"]
    assert all(p.is_file() and p.with_suffix(".json").is_file() for p in paths)
    assert "landmarks.onnx: built; 1×112×112×3–1×112×112×3–16×112×112×3; layers: 4 in FLOAT" in done.stderr.replace(
        "\n", " "
    )
    again = CliRunner().invoke(app, ["engine"])
    assert again.stdout == done.stdout
    assert again.stderr.count("already built") == 3


def test_info_tells_of_the_engine(cache: Path) -> None:
    done = CliRunner().invoke(app, ["info", LANDMARKS, "--provider", "tensorrt", "--json"])
    row = json.loads(done.stdout)
    assert (row["provider"], row["nodes"]) == ("tensorrt", {"TensorRT, float": 4})


def test_info_tells_where_nodes_run(cache: Path) -> None:
    done = CliRunner().invoke(app, ["info", LANDMARKS, "--provider", "cpu", "--json"])
    assert done.exit_code == 0
    nodes = json.loads(done.stdout)["nodes"]
    assert nodes is None or nodes["CPUExecutionProvider"] > 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "1,4"], "--batch expects three integers"),
        (["--batch", "4,1,8"], "minimum, optimum and maximum"),
        (["--batch", "a,b,c"], "--batch expects integers"),
        (["--batch", "1,1,3000000000"], "at most 2147483647 values"),
        (["--workspace-mb", "100000"], "OutOfMemory"),
        (["--workspace-mb", "100000000000000"], "expected a workspace of 1 to 1048576 MB"),
        (["--max-side", "10000000000"], "at most 2147483647 values"),
        (["none.onnx"], "no model"),
    ],
)
def test_what_cannot_be_built_is_told(cache: Path, arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["engine", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr.replace("\n", " ")
    assert not list(cache.rglob("*.plan"))


def test_folder_that_cannot_be_written_is_told_before_the_build(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "file").touch()
    monkeypatch.setenv("MIEN_CACHE", str(cache / "file"))
    done = CliRunner().invoke(app, ["engine", LANDMARKS])
    assert done.exit_code == 2
    assert "MIEN_CACHE" in done.stderr
    assert "building" not in done.stderr


def test_engine_that_cannot_be_kept_is_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mien.runtime.atomic_file.os.replace", full)
    done = CliRunner().invoke(app, ["engine", LANDMARKS])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "could not be stored in" in done.stderr.replace("\n", " ")


def test_no_tensorrt_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    if pytest.importorskip("importlib.util").find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is here")
    done = CliRunner().invoke(app, ["engine"])
    assert done.exit_code == 2
    assert "TensorRT is not installed" in done.stderr.replace("\n", " ")
