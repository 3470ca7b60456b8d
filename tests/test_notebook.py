"""The notebook's cells run from the first to the last, on drawn pictures and without weights from the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mien

NOTEBOOK = Path(mien.__file__).parent / "examples" / "transfer_learning.ipynb"


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
    for name, value in {**settings, "WEIGHTS": "none", "EPOCHS": 2, "BACKBONE": "resnet18"}.items():
        monkeypatch.setenv(f"NOTEBOOK_{name}", str(value))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    variables: dict[str, object] = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), variables)
    printed = capsys.readouterr().out
    assert (tmp_path / "runs" / "classes.onnx").is_file()
    assert '"accuracy"' in printed and "trn_loss" in printed and "eager" in printed
