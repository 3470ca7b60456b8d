"""What --negatives, --light-augmentation and --bfloat16 change in a training run."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mien.cli import app
from mien.export.networks.checkpoint import load_checkpoint
from mien.export.training.config import BEST, LAST, METRICS, NetworkConfig
from mien.export.training.tasks.age_gender import AgeGenderTraining
from mien.export.training.tasks.landmarks import LandmarkTraining

SMALL = NetworkConfig("small", "none")
QUICK = "--backbone small --weights none --input-size 64 --batch-size 8 --workers 0 --epochs 1"


@pytest.fixture
def negatives(tmp_path: Path) -> Path:
    """A folder with a green picture, as no drawn face has it."""
    folder = tmp_path / "green"
    folder.mkdir()
    cv2.imwrite(str(folder / "green.png"), np.full((96, 96, 3), (0, 255, 0), np.uint8))
    return folder


def samples_of(dataset: Any, epochs: int = 8) -> Iterator[list[np.ndarray]]:
    """The samples of some epochs."""
    for dataset.epoch in range(epochs):
        yield from ([part.numpy() for part in dataset[i]] for i in range(len(dataset)))


def landmark_samples(folder: Path, **options: Any) -> Iterator[list[np.ndarray]]:
    task = LandmarkTraining(folder, SMALL, input_size=64, **options)
    task.dataset.read_images()
    return samples_of(task.dataset)


def green_share(folder: Path, negatives: Path | None) -> float:
    """Share of the samples without a face that are by far the most green."""
    without = [pixels for pixels, _, is_face, *_ in landmark_samples(folder, negatives=negatives) if not is_face]
    assert len(without) > 10
    return float(np.mean([pixels[..., 1].mean() > 60 + pixels[..., ::2].mean() for pixels in without]))


def test_pictures_without_faces_are_drawn_from(landmark_folder: Path, negatives: Path) -> None:
    assert green_share(landmark_folder, None) == 0
    assert 0.2 < green_share(landmark_folder, negatives) < 0.5


def roll_of(folder: Path, *, light: bool) -> float:
    """Standard deviation of the angle between the eyes, in radians."""
    eyes = [
        points[45] - points[36]
        for _, points, is_face, *_ in landmark_samples(folder, light_augmentation=light)
        if is_face
    ]
    return float(np.std([np.arctan2(y, x) for x, y, _ in eyes]))


def test_light_augmentation_turns_faces_less(landmark_folder: Path) -> None:
    assert roll_of(landmark_folder, light=True) < 0.6 * roll_of(landmark_folder, light=False)


def change_of(folder: Path, *, light: bool) -> float:
    """Standard deviation over epochs of the same face's mean brightness."""
    dataset = AgeGenderTraining(folder, SMALL, input_size=64, light_augmentation=light).dataset
    means = np.reshape([pixels.mean() for pixels, *_ in samples_of(dataset)], (8, -1))
    return float(means.std(axis=0).mean())


def test_light_augmentation_changes_aligned_faces_less(age_gender_folder: Path) -> None:
    assert change_of(age_gender_folder, light=True) < 0.8 * change_of(age_gender_folder, light=False)


def mien(*words: object) -> None:
    result = CliRunner().invoke(app, ["train", "landmarks", *map(str, words)])
    assert result.exit_code == 0, result.output


def test_a_run_keeps_these_options(landmark_folder: Path, negatives: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    mien("--data", landmark_folder, *QUICK.split(), "--negatives", negatives, "--light-augmentation", "--out", run)
    mien("--resume", run, "--epochs", 2)
    config = load_checkpoint(run / LAST).config
    assert (config["negatives"], config["light_augmentation"], config["train"]["epochs"]) == ("green", True, 2)


def test_bfloat16_changes_little_and_saves_float32(landmark_folder: Path, tmp_path: Path) -> None:
    losses = []
    for kind in ("float32", "bfloat16"):
        run = tmp_path / kind
        mien("--data", landmark_folder, *QUICK.split(), f"--{kind}", "--out", run)
        with (run / METRICS).open(newline="") as handle:
            losses += [float(row["trn_loss"]) for row in csv.DictReader(handle)]
    assert {v.dtype for v in load_checkpoint(run / BEST).weights.values() if v.is_floating_point()} == {torch.float32}
    assert losses[1] == pytest.approx(losses[0], rel=0.02) and losses[1] != losses[0]
