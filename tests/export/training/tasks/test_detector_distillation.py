"""A student detector learns from a trained one, also on pictures without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mien.export.networks.backbones import build_backbone
from mien.export.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mien.export.networks.normalization import Normalization
from mien.export.training.config import DistillationConfig, NetworkConfig, TrainConfig, no_progress
from mien.export.training.loop import fit
from mien.export.training.tasks.detector import DetectorTraining, split
from mien.export.training.tasks.unlabelled_faces import readable_pictures
from mien.runtime.errors import InputError

SMALL = NetworkConfig("small", "none")
FAST = TrainConfig(epochs=1, batch_size=4, learning_rate=1e-3, workers=0)


@pytest.fixture
def teacher(boxed_folder: Path, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    task = DetectorTraining([boxed_folder], SMALL, input_size=128, scenes=8)
    save_checkpoint(tmp_path / "teacher.pt", Checkpoint(task.spec, task.config, {}, task.net.state_dict()))
    return tmp_path / "teacher.pt"


def student(teacher: Path, boxed_folder: Path, class_folder: Path, network: NetworkConfig = SMALL) -> DetectorTraining:
    torch.manual_seed(0)
    distillation = DistillationConfig((teacher,), (class_folder,))
    return DetectorTraining([boxed_folder], network, input_size=128, scenes=16, distillation=distillation)


def test_a_student_starts_from_the_layers_that_it_shares(teacher: Path, boxed_folder: Path, class_folder: Path) -> None:
    weights = load_checkpoint(teacher).weights
    own = student(teacher, boxed_folder, class_folder, NetworkConfig("mobilenet_v3_small", "none")).net.state_dict()
    head = "head.0.2.weight"  # of the same shape in every detector
    assert torch.equal(own[head], weights[head])
    assert own["lateral.0.weight"].shape != weights["lateral.0.weight"].shape


def test_pretrained_weights_keep_their_input_scale_beside_a_teacher_of_another(
    teacher: Path, boxed_folder: Path, class_folder: Path, tmp_path: Path
) -> None:
    torch.save(build_backbone("small", "none").state_dict(), tmp_path / "backbone.pt")
    network = NetworkConfig("small", str(tmp_path / "backbone.pt"), Normalization.SYMMETRIC)
    own, other = (
        student(teacher, boxed_folder, class_folder, network).net.state_dict(),
        load_checkpoint(teacher).weights,
    )
    assert (own["prologue.mean"] == 127.5).all() and (other["prologue.mean"] != 127.5).all()
    assert not torch.equal(own["head.0.2.weight"], other["head.0.2.weight"])


def test_unlabelled_pictures_count_for_the_teacher_alone(teacher: Path, boxed_folder: Path, class_folder: Path) -> None:
    task = student(teacher, boxed_folder, class_folder)
    task.dataset.unlabelled_share = 1.0
    image, boxes, labels, again = task.dataset[0]
    assert (labels == -1).any() and not (labels == 1).any() and not boxes.any() and torch.equal(image, again)
    parts = task.losses(
        task.net.raw_and_pyramid(image[None]), (boxes[None], torch.full_like(labels, -1)[None], again[None])
    )
    assert parts["score"] == parts["box"] == 0 and parts["teacher_score"] + parts["teacher_features"] > 0


def test_unreadable_unlabelled_pictures_are_left_out(
    teacher: Path, boxed_folder: Path, class_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (class_folder / "disc" / "broken.jpg").write_bytes(b"no picture")
    task = student(teacher, boxed_folder, class_folder)
    task.dataset.unlabelled_share = 1.0
    fit(task, FAST, tmp_path / "run")
    assert len(task.dataset.unlabelled) == 32 and "left out 1 unlabelled picture; the first" in caplog.text
    with pytest.raises(InputError, match=r"no unlabelled picture can be read, the first of 1: .*broken\.jpg"):
        readable_pictures([class_folder / "disc" / "broken.jpg"], no_progress)


def test_the_validation_split_needs_a_face(boxed_folder: Path) -> None:
    _, validation, _ = split(boxed_folder)
    held = [f"{file.name}," for file in validation.files]
    rows = (boxed_folder / "boxes.csv").read_text().splitlines()
    (boxed_folder / "boxes.csv").write_text("\n".join(row for row in rows if not row.startswith(tuple(held))) + "\n")
    with pytest.raises(InputError, match=rf"the validation split, {len(held)} pictures? of .* shows no face"):
        DetectorTraining([boxed_folder], SMALL, input_size=128, scenes=8)


def test_a_student_is_trained_and_knows_its_teacher(
    teacher: Path, boxed_folder: Path, class_folder: Path, tmp_path: Path
) -> None:
    before = {k: v.clone() for k, v in load_checkpoint(teacher).weights.items()}
    task = student(teacher, boxed_folder, class_folder)
    best = fit(task, FAST, tmp_path / "run")
    assert best.config["teachers"] == [load_checkpoint(teacher).spec.weights_sha256]
    assert best.config["unlabelled"] == [class_folder.name]
    assert all(torch.equal(v, before[k]) for k, v in load_checkpoint(teacher).weights.items())
    assert not any(p.requires_grad for t in task.teachers.members for p in t.net.parameters())
    assert any(not np.allclose(v, before[k]) for k, v in best.weights.items())
