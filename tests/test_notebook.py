"""The notebook's cells run from the first to the last, on drawn pictures and without weights from the network."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import mien
from mien.cli import app
from mien.export.networks.backbones import ARCHITECTURES, Architecture
from mien.runtime.capture.demo_camera import find_photo
from mien.tests.export.conftest import SMALL, SmallBackbone

NOTEBOOK = Path(mien.__file__).parent / "examples" / "transfer_learning.ipynb"
RUN = subprocess.run


def run_here(command: list[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run a command of mien in this process: in one of its own, each would import PyTorch again."""
    if command[:3] != [sys.executable, "-m", "mien"]:
        return RUN(command, **options)
    result = CliRunner().invoke(app, command[3:])
    return subprocess.CompletedProcess(command, result.exit_code, result.stdout, result.stderr)


def test_the_notebook_runs_on_drawn_pictures(
    class_folder: Path,
    landmark_folder: Path,
    age_gender_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") for cell in cells)  # kept without results, which would grow stale
    settings = {"CLASSES": class_folder, "FACES": landmark_folder, "AGES": age_gender_folder, "RUNS": tmp_path / "runs"}
    for name, value in {**settings, "WEIGHTS": "none", "EPOCHS": 2, "BACKBONE": SMALL}.items():
        monkeypatch.setenv(f"NOTEBOOK_{name}", str(value))
    monkeypatch.setitem(ARCHITECTURES, SMALL, Architecture(SmallBackbone, (1, 2, 3, 4)))
    monkeypatch.setenv("NOTEBOOK_PICTURE", str(find_photo()[0]))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", run_here)
    variables: dict[str, object] = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), variables)
    printed = capsys.readouterr().out
    assert all((tmp_path / "runs" / f"classes.{form}").is_file() for form in ("onnx", "mp4"))
    assert len(list((tmp_path / "runs" / "points").iterdir())) == 1
    assert re.search(r": 1 face \(\d+ years, (fe)?male\)", printed)
    assert re.search(r"\.png: \w+ \d+ %, \w+ \d+ %", printed)
    assert '"accuracy"' in printed and "trn_loss" in printed and "eager" in printed
