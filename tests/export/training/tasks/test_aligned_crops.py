"""Aligned crops keep their proportions, and look the same in training, validation, evaluation and to a teacher."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from mien.bench.accuracy.evaluate_attributes import evaluate_age_gender
from mien.bench.data.aligned_crops import aligned_input
from mien.bench.data.sample_inputs import sample_batch
from mien.export.training.config import NetworkConfig
from mien.export.training.tasks import frozen_backbone
from mien.export.training.tasks.age_gender import AgeGenderTraining
from mien.export.training.tasks.frozen_backbone import FrozenBackboneAgeGenderTraining
from mien.export.training.tasks.teacher_views import whole_picture
from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.pictures.images import read_image
from mien.runtime.vision.resize import resized

SIDE = 64
SMALL = NetworkConfig("mobilenet_v3_small", "none")


@pytest.fixture
def narrow_folder(age_gender_folder: Path) -> Path:
    """An age and gender folder of crops that are higher than wide."""
    for i, file in enumerate(sorted((age_gender_folder / "images").iterdir())):
        crop = cv2.imread(str(file))[:, 8 : 56 - i % 3]
        cv2.imwrite(str(file), crop)
    return age_gender_folder


def extended(file: Path) -> npt.NDArray[np.uint8]:
    crop = read_image(file)
    margin = SIDE - crop.shape[1]
    return np.pad(crop, ((0, 0), (margin // 2, margin - margin // 2), (0, 0)), mode="reflect")


class Watcher:
    """Runner that keeps its inputs."""

    spec = ModelSpec(Task.AGE_GENDER, (SIDE, SIDE), ("age", "female"))

    def __init__(self) -> None:
        self.seen: list[npt.NDArray[np.uint8]] = []

    def __call__(self, images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float64]]:
        self.seen += list(images)
        return {"age": np.zeros(len(images)), "female": np.zeros(len(images))}


def test_crops_look_the_same_everywhere(narrow_folder: Path) -> None:
    task = AgeGenderTraining(narrow_folder, SMALL, input_size=SIDE)
    task.prepare()
    assert (task.images.numpy() == np.stack([extended(file) for file in task.held.files])).all()
    task.dataset.strength = 0.0  # neither moved nor recoloured, but half of them are mirrored
    for i, file in enumerate(task.training.files):
        pixels, wanted = task.dataset[i][0].numpy(), extended(file)
        assert (pixels == wanted).all() or (pixels == wanted[:, ::-1]).all()
    runner = Watcher()
    table = evaluate_age_gender(runner, narrow_folder).labels  # type: ignore[arg-type]
    assert (np.stack(runner.seen) == np.stack([extended(file) for file in table.files])).all()
    known = {extended(file).tobytes() for file in table.files}
    assert {image.tobytes() for image in sample_batch(runner.spec, 8, data=narrow_folder)} <= known


def test_a_frozen_backbone_sees_the_same(narrow_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def compute(net: object, files: list[Path], *, read: object, **_: object) -> torch.Tensor:
        seen.extend((read(file) == extended(file)).all() for file in files)  # type: ignore[operator]
        return torch.zeros(len(files), 1)

    monkeypatch.setattr(frozen_backbone, "compute_features", compute)
    FrozenBackboneAgeGenderTraining(narrow_folder, SMALL).prepare()
    assert len(seen) > 20 and all(seen)


def test_a_teacher_sees_the_same_proportions(narrow_folder: Path) -> None:
    matrix = whole_picture(narrow_folder / "images" / "00.png")  # 48 × 64 px
    assert np.allclose(matrix[:, :2], np.eye(2) / SIDE) and np.allclose(matrix @ [23.5, 31.5, 1], 0)


def test_a_square_crop_is_only_resized() -> None:
    crop = np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)
    assert (aligned_input(crop, 32) == resized(crop, 32)).all() and (aligned_input(crop, 50) == crop).all()
