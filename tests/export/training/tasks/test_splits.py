"""No epoch is chosen on the test split, and nothing of it is learnt."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mien.bench.data.age_gender_labels import read_age_gender
from mien.bench.data.landmark_labels import read_landmarks
from mien.bench.data.splits import held_out
from mien.export.training.config import NetworkConfig
from mien.export.training.tasks import detector
from mien.export.training.tasks.age_gender import AgeGenderTraining
from mien.export.training.tasks.frozen_backbone import FrozenBackboneLandmarkTraining
from mien.export.training.tasks.landmarks import LandmarkTraining

NAMES = [f"person {n}" for n in range(800)]
SMALL = NetworkConfig("mobilenet_v3_small", "none")


def regroup(folder: Path, file: str, column: str) -> None:
    """Give every row a group of its own; of four rows, the last two are held out."""
    kept, held = ([n for n, is_held in zip(NAMES, held_out(NAMES), strict=True) if is_held == side] for side in (0, 1))
    with (folder / file).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for i, row in enumerate(rows):
        row[column] = (kept, held)[i // 2 % 2][i]
    with (folder / file).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def check(trained: Sequence[Path], validated: Sequence[Path], held: Sequence[Path], tested: Sequence[Path]) -> None:
    assert set(validated) | set(tested) == set(held) and not set(validated) & set(tested)
    assert not set(trained) & set(held) and len(trained) and len(validated) > 2 < len(tested)


def landmark_split(folder: Path) -> tuple[Sequence[Path], Sequence[Path]]:
    task = LandmarkTraining(folder, SMALL, input_size=64)
    return task.training.files, task.held.files


def frozen_split(folder: Path) -> tuple[Sequence[Path], Sequence[Path]]:
    task = FrozenBackboneLandmarkTraining(folder, NetworkConfig("vgg16", "none"))
    return task.training.files, task.held.files


def detector_split(folder: Path) -> tuple[Sequence[Path], Sequence[Path]]:
    training, validation, _ = detector.split(folder)
    return training.files, validation.files


@pytest.mark.parametrize("split", [landmark_split, frozen_split, detector_split])
def test_faces_of_the_test_split(
    split: Callable[[Path], tuple[Sequence[Path], Sequence[Path]]], landmark_folder: Path
) -> None:
    regroup(landmark_folder, "landmarks.csv", "subject")
    table = read_landmarks(landmark_folder)
    held = table.mask(table.held_out())
    check(*split(landmark_folder), held.files, held.mask(held.in_test_split()).files)


def test_a_frozen_backbone_learns_no_picture_with_two_faces(
    landmark_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = landmark_folder / "landmarks.csv"
    header, first, *others = labels.read_text().splitlines()
    labels.write_text("\n".join([header, first, first, *others]))
    whole = read_landmarks(landmark_folder).files
    task = FrozenBackboneLandmarkTraining(landmark_folder, NetworkConfig("vgg16", "none"))
    used = [*task.training.files, *task.held.files]
    assert whole.count(whole[0]) == 2 and whole[0] not in used and len(set(used)) == len(used)
    assert len(task.training) == len(task.targets) and len(task.held) == len(task.held_targets) == len(task.sizes)
    assert "left out 1 picture with several faces" in caplog.text


def test_ages_of_the_test_split(age_gender_folder: Path) -> None:
    regroup(age_gender_folder, "labels.csv", "group")
    table = read_age_gender(age_gender_folder)
    held = table.mask(table.held_out())
    task = AgeGenderTraining(age_gender_folder, SMALL, input_size=64)
    check(task.training.files, task.held.files, held.files, held.mask(held.in_test_split()).files)
