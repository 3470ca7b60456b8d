"""Students of landmarks, age and gender learn from trained networks, also on faces without labels."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mien.bench.data.drawn_face import draw_face
from mien.bench.data.face_boxes import read_faces
from mien.bench.data.landmark_labels import read_landmarks
from mien.cli import app
from mien.export.networks.age_gender_net import BINS
from mien.export.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mien.export.networks.landmark_net import cell_centres
from mien.export.training.augmentation import worsen
from mien.export.training.config import DistillationConfig, NetworkConfig, TrainConfig
from mien.export.training.distillation import Teacher
from mien.export.training.loop import fit
from mien.export.training.losses import age_gender_losses, heat_map_divergence, landmark_losses
from mien.export.training.run_state import LAST
from mien.export.training.tasks import unlabelled_faces
from mien.export.training.tasks.age_gender import AgeGenderTraining
from mien.export.training.tasks.detector import DetectorTraining
from mien.export.training.tasks.landmark_crops import LandmarkCrops
from mien.export.training.tasks.landmarks import LandmarkTraining
from mien.export.training.tasks.taught_ages import teach_ages
from mien.export.training.tasks.taught_points import TaughtPoints, teach_points
from mien.export.training.tasks.teacher_views import Regions, whole_picture
from mien.export.training.tasks.unlabelled_faces import FoundFaces, find_faces
from mien.runtime.errors import InputError, ModelError
from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.vision.mean_face import CANONICAL

SMALL = NetworkConfig("small", "none")
TASKS = {"landmarks": LandmarkTraining, "age-gender": AgeGenderTraining}
FOLDERS = {"landmarks": "landmark_folder", "age-gender": "age_gender_folder"}


def nothing(description: str, done: int, total: int) -> None:
    """Ignore progress."""


def config(epochs: int) -> TrainConfig:
    return TrainConfig(epochs=epochs, batch_size=8, learning_rate=2e-3, workers=0, average=0.5)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for each test."""
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three drawn faces that the shipped models find, and a picture without one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        picture, _ = draw_face(i)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(picture, (320, 240), interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(folder / "wall.png"), np.full((120, 160, 3), 160, np.uint8))
    return folder


def data_of(task: str, request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(FOLDERS[task]))


def make_teacher(task: str, folder: Path, path: Path, *, size: int = 64, seed: int = 1) -> Path:
    """Save an untrained network of a task."""
    torch.manual_seed(seed)
    training = TASKS[task](folder, SMALL, input_size=size)
    save_checkpoint(path, Checkpoint(training.spec, training.config, {}, training.net.state_dict()))
    return path


def student(task: str, folder: Path, teachers: list[Path], unlabelled: list[Path], **options: Any) -> Any:
    torch.manual_seed(0)
    distillation = DistillationConfig(tuple(teachers), tuple(unlabelled))
    return TASKS[task](folder, SMALL, input_size=64, distillation=distillation, **options)


class DotFinder(torch.nn.Module):
    """Landmark network that places even points on the leftmost light spot, odd ones on the rightmost."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(40.0))

    def heat_maps(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        light = image.float().mean(3) / 255
        x = cell_centres(*light.shape[1:], light.device)[:, 0].reshape(light.shape[1:])
        heat = torch.stack([light * (1 + side * (x - 0.5)) for side in (-1, 1)], dim=1)
        heat = torch.where(light.unsqueeze(1) > 0.4, self.gain * heat, -99.0)
        return heat.repeat(1, 34, 1, 1), torch.full((len(image), 68), 0.5), torch.full((len(image),), 3.0)


def test_predictions_of_all_views_are_points_of_the_picture(tmp_path: Path) -> None:
    picture = np.zeros((200, 240, 3), np.uint8)
    dots = np.array([[90.0, 80.0], [150.0, 110.0]])
    for x, y in dots.astype(int).tolist():
        cv2.circle(picture, (x, y), 4, (255, 255, 255), -1)
    cv2.imwrite(str(tmp_path / "dots.png"), picture)
    turned = np.array([[np.cos(0.4), np.sin(0.4)], [-np.sin(0.4), np.cos(0.4)]])
    around = (CANONICAL[None, :, :2] * 70 @ turned) + [120, 80]  # a face turned clockwise, as the dots are
    sizes = [Teacher(DotFinder(), ModelSpec(Task.LANDMARKS, (s, s), (), dims=3, crop_scale=1.3)) for s in (96, 160)]
    teachers: Any = SimpleNamespace(members=sizes)
    taught = teach_points(teachers, [tmp_path / "dots.png"], around, progress=nothing)
    assert np.abs(taught.points[0, 0::2, :2] - dots[0]).max() < 2
    assert np.abs(taught.points[0, 1::2, :2] - dots[1]).max() < 2
    side = 1.3 * np.ptp(around[0], axis=0).max()
    assert np.allclose(taught.points[..., 2], 0.5 * side, rtol=0.02)  # depth is in px too, like x and y
    assert 0.5 < taught.spread.mean() < 4  # of a dot of 4 px
    assert taught.presence == pytest.approx(1 / (1 + np.exp(-3)))


def test_ages_are_averaged_over_the_face_and_its_mirror_image(tmp_path: Path) -> None:
    class Sided(torch.nn.Module):
        """Takes a face with its light on the left for 20 and male, on the right for 60 and female."""

        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor(99.0))

        def logits(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            half = image.shape[2] // 2
            left = (image[:, :, :half].float().mean((1, 2, 3)) > image[:, :, half:].float().mean((1, 2, 3))).float()
            bins = torch.zeros(len(image), BINS)
            bins[:, 20], bins[:, 60] = self.gain * left, self.gain * (1 - left)
            return bins, self.gain * (1 - 2 * left)

    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :20] = 200
    cv2.imwrite(str(tmp_path / "face.png"), picture)
    teachers: Any = SimpleNamespace(members=[Teacher(Sided(), ModelSpec(Task.AGE_GENDER, (48, 48), ()))])
    faces = Regions([tmp_path / "face.png"], whole_picture(tmp_path / "face.png")[None])
    taught = teach_ages(teachers, faces, progress=nothing)
    assert taught.ages[0, [20, 60]] == pytest.approx([0.5, 0.5]) and taught.female == pytest.approx(0.5)


def test_taught_points_go_through_the_same_crops_as_labels(landmark_folder: Path) -> None:
    """Turned and mirrored, whether a face has labels or not."""
    table = read_landmarks(landmark_folder)
    crops = LandmarkCrops(table, size=64, seed=0, faces_of=read_faces(landmark_folder).boxes)
    crops.read_images()
    labels = np.concatenate([table.points, table.depth[..., None]], axis=2)
    twice = TaughtPoints(np.concatenate([labels, labels]), np.ones((48, 68)), np.repeat([0.9, 0.8], 24))
    crops.add_taught(twice, FoundFaces(table.files, table.points))
    assert len(crops) == 48
    faces = 0
    for index in range(48):
        pixels, points, presence, taught, seen, spread = crops[index]
        assert pixels.shape == (64, 64, 3)
        if presence == 0:
            assert points.isnan().all() and taught.isnan().all() and seen.isnan()
        elif index < 24:
            assert torch.equal(points[:, :2], taught[:, :2]) and presence == 1 and seen == pytest.approx(0.9)
            faces += 1
        else:
            assert points.isnan().all() and presence.isnan() and seen == pytest.approx(0.8)
            assert spread.min() > 0.007 and spread.max() < 0.03  # 1 px of faces of 60 to 90 px
            assert taught[:, :2].min() + 0.5 > 0 and taught[:, :2].max() < 1.5
    assert faces > 12


def test_faces_are_found_once_and_unreadable_pictures_are_left_out(
    photos: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    files = sorted(photos.iterdir())
    seen: list[int] = []
    found = find_faces(files, lambda description, done, total: seen.append(done))
    assert [f.name for f in found.files] == ["0.png", "1.png", "2.png"] and seen == [1, 2, 3, 4, 5]
    for i, points in enumerate(found.points):
        assert np.abs(points - draw_face(i)[1][:, :2] / 2).mean() < 8
    assert "left out 1 unlabelled picture; the first" in caplog.text and "broken.jpg" in caplog.text
    load = unlabelled_faces.Pipeline.load
    monkeypatch.setattr(unlabelled_faces.Pipeline, "load", lambda **_: pytest.fail("searched again"))
    again = find_faces(files, nothing)
    assert again.files == found.files and (again.points == found.points).all()
    monkeypatch.setattr(unlabelled_faces.Pipeline, "load", load)
    for file in own_cache.rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:100])
    assert find_faces(files, nothing).files == found.files
    with pytest.raises(InputError, match=r"no face was found in 1 unlabelled picture;"):
        find_faces([photos / "wall.png"], nothing)


def test_what_cannot_be_cached_is_computed_each_time(
    photos: Path, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own_cache.write_text("a file, where a folder should be")
    with caplog.at_level(logging.WARNING):
        assert len(find_faces([photos / "0.png"], nothing)) == 1
    assert "could not be kept" in caplog.text


@pytest.mark.parametrize("task", TASKS)
def test_a_resumed_student_equals_an_unbroken_one(
    task: str, photos: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = data_of(task, request)
    teachers = [make_teacher(task, folder, tmp_path / f"{size}.pt", size=size, seed=size) for size in (64, 96)]
    whole = fit(student(task, folder, teachers, [photos]), config(2), tmp_path / "whole")
    broken = student(task, folder, teachers, [photos])
    validate, calls = broken.validate, iter(range(2))
    broken.validate = lambda net: validate(net) if next(calls) == 0 else exec("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        fit(broken, config(2), tmp_path / "broken")
    assert len(broken.dataset) == len(broken.training) + 3  # each epoch has the unlabelled faces too
    moved = photos.rename(tmp_path / "moved")
    resumed = fit(student(task, folder, teachers, [moved]), config(2), tmp_path / "broken", resume=True)
    a, b = (load_checkpoint(tmp_path / run / LAST).weights for run in ("whole", "broken"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert resumed.metrics == whole.metrics
    digests = [load_checkpoint(teacher).spec.weights_sha256 for teacher in teachers]
    assert resumed.config["teachers"] == digests
    assert resumed.spec.provenance["teachers"] == ", ".join(digest[:12] for digest in digests)
    assert resumed.spec.provenance["unlabelled"] == "moved"
    fewer = student(task, folder, teachers[:1], [moved])
    with pytest.raises(InputError, match="teachers was"):
        fit(fewer, config(2), tmp_path / "broken", resume=True)
    (moved / "1.png").unlink()
    with pytest.raises(InputError, match="the labels or the pictures have changed"):
        fit(student(task, folder, teachers, [moved]), config(2), tmp_path / "broken", resume=True)


@pytest.mark.parametrize("task", TASKS)
def test_no_student_is_closer_to_a_teacher_than_the_teacher_itself(
    task: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = data_of(task, request)
    teacher = make_teacher(task, folder, tmp_path / "teacher.pt")
    training = student(task, folder, [teacher], [])
    training.prepare()
    training.dataset.worsened = 0.0
    images, *targets = (torch.stack(column) for column in zip(*(training.dataset[i] for i in range(16)), strict=True))

    def distance() -> float:
        training.net.eval()
        parts = training.losses(getattr(training.net, training.trained_by)(images), tuple(targets))
        return sum(loss.item() for name, loss in parts.items() if name.startswith("teacher_"))

    other = distance()
    training.net.load_state_dict(load_checkpoint(teacher).weights)
    assert distance() < other


def test_pictures_with_labels_are_no_unlabelled_ones(age_gender_folder: Path, tmp_path: Path) -> None:
    """Not those in training, and least of all those that are held out."""
    teacher = make_teacher("age-gender", age_gender_folder, tmp_path / "teacher.pt")
    cv2.imwrite(str(age_gender_folder / "new.png"), np.zeros((64, 64, 3), np.uint8))
    taught = student("age-gender", age_gender_folder, [teacher], [age_gender_folder])
    assert [file.name for file in taught.teachers.files] == ["new.png"]
    (age_gender_folder / "new.png").unlink()
    with pytest.raises(InputError, match="all --unlabelled pictures are pictures of --data"):
        student("age-gender", age_gender_folder, [teacher], [age_gender_folder])


def test_depth_is_not_learnt_where_the_student_has_none(landmark_folder: Path, tmp_path: Path) -> None:
    teacher = make_teacher("landmarks", landmark_folder, tmp_path / "teacher.pt")
    flat = student("landmarks", landmark_folder, [teacher], [], dims=2)
    flat.prepare()
    assert np.isnan(flat.dataset.points[..., 2]).all()
    assert not np.isnan(flat.dataset.points[..., :2]).any()


def test_losses_take_what_is_known() -> None:
    torch.manual_seed(0)
    heat, depth, presence = torch.randn(3, 68, 8, 8), torch.randn(3, 68), torch.randn(3)
    points = torch.rand(3, 68, 3)
    points[2] = torch.nan
    known = landmark_losses(heat[:2], depth[:2], presence[:2], points[:2], torch.tensor([1.0, 0.7]))
    all_three = landmark_losses(heat, depth, presence, points, torch.tensor([1.0, 0.7, torch.nan]))
    assert {k: v.item() for k, v in known.items()} == pytest.approx({k: v.item() for k, v in all_three.items()})
    bins, logit, weights = torch.randn(3, BINS), torch.randn(3), {"age_weight": 1.0, "gender_weight": 2.0}
    age, female = torch.tensor([20.0, 60.0, torch.nan]), torch.tensor([0.2, 1.0, torch.nan])
    some = age_gender_losses(bins[:2], logit[:2], age[:2], female[:2], **weights)
    whole = age_gender_losses(bins, logit, age, female, **weights)
    assert {k: v.item() for k, v in some.items()} == pytest.approx({k: v.item() for k, v in whole.items()})
    own = bins.softmax(dim=1)
    least = age_gender_losses(bins, logit, own @ torch.arange(float(BINS)), female, own, **weights)["age"]
    assert least < age_gender_losses(bins, logit, own @ torch.arange(float(BINS)), female, **weights)["age"]


def test_a_doubtful_target_asks_for_a_wide_heat_map() -> None:
    points, centres = torch.tensor([[[0.5, 0.5]]]), cell_centres(16, 16, torch.device("cpu"))
    squared = (16 * (points - centres)).square().sum(-1).reshape(1, 1, 16, 16)
    narrow, wide = -squared / 2, -squared / (2 * 3.0**2)
    spread = torch.full((1, 1), 3 / 16)
    assert heat_map_divergence(narrow, points) < heat_map_divergence(wide, points)
    assert heat_map_divergence(wide, points, spread) < heat_map_divergence(narrow, points, spread)
    assert heat_map_divergence(narrow, points, spread / 9) == heat_map_divergence(narrow, points)


def test_unusable_teachers_are_refused(landmark_folder: Path, age_gender_folder: Path, tmp_path: Path) -> None:
    ages = make_teacher("age-gender", age_gender_folder, tmp_path / "ages.pt")
    for task, folder in (("landmarks", landmark_folder), ("age-gender", age_gender_folder)):
        with pytest.raises(InputError, match="--unlabelled pictures need a --teacher to label them; pass one"):
            student(task, folder, [], [landmark_folder])
        with pytest.raises(ModelError, match="no checkpoint"):
            student(task, folder, [tmp_path / "none.pt"], [])
    with pytest.raises(InputError, match=r"ages\.pt is a model for age-gender, expected one for landmarks"):
        student("landmarks", landmark_folder, [ages], [])
    with pytest.raises(InputError, match="expected one for detector"):
        DetectorTraining([landmark_folder], SMALL, input_size=128, distillation=DistillationConfig((ages,)))
    for weight, message in ((0.5, "--teacher-weight needs a --teacher; pass one"), (0.0, "--teacher-weight needs")):
        with pytest.raises(InputError, match=message):
            LandmarkTraining(landmark_folder, SMALL, distillation=DistillationConfig(weight=weight))
    for unusable in (0.0, float("nan")):
        with pytest.raises(InputError, match=f"expected a --teacher-weight above 0, found {unusable:g}"):
            AgeGenderTraining(age_gender_folder, SMALL, distillation=DistillationConfig((ages,), weight=unusable))
    chapter = load_checkpoint(ages)
    save_checkpoint(ages, replace(chapter, config=chapter.config | {"recipe": "frozen-backbone"}))
    with pytest.raises(InputError, match="was trained with --recipe frozen-backbone, expected --recipe own"):
        student("age-gender", age_gender_folder, [ages], [])


def test_the_command_resumes_with_its_teachers(
    age_gender_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_teacher("age-gender", age_gender_folder, tmp_path / "teacher.pt")

    def train(*words: object) -> Any:
        return CliRunner().invoke(app, ["train", "age-gender", *map(str, words)])

    taught = ["--data", age_gender_folder.name, "--teacher", "teacher.pt", "--unlabelled", photos.name]
    options = ["--backbone", "small", "--weights", "none", "--input-size", 64, "--batch-size", 8, "--workers", 0]
    result = train(*taught, *options, "--teacher-weight", 0.5, "--epochs", 1, "--out", "run")
    assert result.exit_code == 0, result.output
    monkeypatch.chdir("/")
    result = train("--resume", tmp_path / "run", "--epochs", 2)
    assert result.exit_code == 0, result.output
    result = train("--resume", tmp_path / "run", "--teacher-weight", 2)
    assert result.exit_code == 2 and "teacher_weight was 0.5, is 2" in " ".join(result.output.split())
    frozen = train("--data", age_gender_folder, "--recipe", "chapter", "--teacher", tmp_path / "teacher.pt")
    assert frozen.exit_code == 2 and "frozen-backbone does not take --teacher" in " ".join(frozen.output.split())


def test_worsened_faces_have_lost_detail_and_nothing_else_has_changed() -> None:
    rng = np.random.default_rng(0)
    face = cv2.GaussianBlur(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), (0, 0), 1.0)
    before = face.copy()
    kept = []
    for seed in range(40):
        worse = worsen(face, np.random.default_rng(seed))
        assert worse.shape == face.shape and worse.dtype == np.uint8
        kept.append(np.corrcoef(worse.ravel(), face.ravel())[0, 1])
        assert (worse == worsen(face, np.random.default_rng(seed))).all()
    assert (face == before).all()
    assert np.median(kept) < 0.8 and min(kept) > 0.05  # still the same face
