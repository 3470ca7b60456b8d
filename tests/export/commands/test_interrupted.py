"""`mien train` that is ended by a signal, and continued."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import torch
from typer.testing import CliRunner

from mien.cli import app
from mien.export.networks.checkpoint import load_checkpoint
from mien.export.training.config import LAST, METRICS
from mien.tests.processes import MIEN, started, wait_for

OPTIONS = "--backbone reslayer --weights none --input-size 32 --batch-size 8 --workers 0 --epochs 3"


def epochs_of(run: Path) -> list[str]:
    with (run / METRICS).open(newline="") as handle:
        return [row["epoch"] for row in csv.DictReader(handle)]


def test_a_run_that_a_signal_ended_gives_what_an_unbroken_one_gives(class_folder: Path, tmp_path: Path) -> None:
    whole, broken, log = tmp_path / "whole", tmp_path / "my run", tmp_path / "log"
    start = ["train", "classify", "--data", str(class_folder), *OPTIONS.split(), "--out"]
    with log.open("wb") as stderr, started(*MIEN, *start, broken, stdout=stderr, stderr=stderr) as process:
        wait_for(lambda: "epoch 1: " in log.read_text())
        process.send_signal(signal.SIGTERM)  # in the second epoch
        assert process.wait(60) == 128 + signal.SIGTERM
    assert log.read_text().endswith(f"interrupted; to continue: mien train classify --resume '{broken}'\n")
    assert epochs_of(broken) in (["1"], ["1", "2"]) and not list(broken.glob(".mien-*"))
    for command in (["train", "classify", "--resume", str(broken)], [*start, str(whole)]):
        assert CliRunner().invoke(app, command).exit_code == 0
    a, b = (load_checkpoint(run / LAST).weights for run in (whole, broken))
    assert all(torch.allclose(a[name].float(), b[name].float(), atol=1e-6) for name in a)
    assert (broken / METRICS).read_text() == (whole / METRICS).read_text()
