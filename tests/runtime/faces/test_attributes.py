from __future__ import annotations

import cv2
import numpy as np
import pytest

from mien.runtime.faces.attributes import EVERY, MIN_SHARPNESS, REMEMBERED, TrackedAttributes, estimate, sharpness
from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.values import Faces, FloatArray, Image
from mien.runtime.vision.crop import CROP_SCALE, EYE_HEIGHT, alignment_matrix
from mien.runtime.vision.geometry import transform_points
from mien.runtime.vision.mean_face import CANONICAL

IMAGE = np.zeros((200, 200, 3), np.uint8)


@pytest.mark.parametrize(("zoom", "roll"), [(40.0, 0.0), (90.0, 0.7), (25.0, -2.0)])
def test_eyes_land_where_an_aligned_crop_has_them(zoom: float, roll: float) -> None:
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    seen = zoom * CANONICAL[:, :2] @ turn.T + [120.0, 80.0]
    crop = transform_points(seen, alignment_matrix(seen, scale=CROP_SCALE, size=112))
    eyes = (crop[[36, 45]] + 0.5) / 112
    assert np.allclose(eyes[:, 1], EYE_HEIGHT, atol=1e-6)
    assert np.allclose(eyes.mean(axis=0)[0], 0.5) and np.isclose(np.ptp(eyes[:, 0]) * CROP_SCALE, 1, atol=0.002)


class Runner:
    """Ages by a list of its own; notes how many crops it was given."""

    spec = ModelSpec(Task.AGE_GENDER, (32, 32), ("age", "female"), crop_scale=CROP_SCALE)

    def __init__(self, ages: list[float]) -> None:
        self.ages = ages
        self.batches: list[int] = []

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        self.batches.append(len(batch))
        ages = [self.ages.pop(0) for _ in batch]
        return {"age": np.array(ages, np.float32), "female": np.array([0.8] * len(batch), np.float32)}


def faces(*ids: int) -> Faces:
    points = np.tile(40 * CANONICAL[None], (len(ids), 1, 1)) + 100
    known = Faces.from_boxes(np.tile([60.0, 60, 140, 140], (len(ids), 1)), np.ones(len(ids)))
    return known.with_fields(landmarks=points, track_id=np.array(ids, dtype=np.int64))


def test_a_track_is_looked_at_now_and_then_and_its_age_is_the_mean() -> None:
    runner = Runner([30.0, 40.0, 50.0])
    attributes = TrackedAttributes(runner)  # type: ignore[arg-type]
    ages = [float(attributes.update(IMAGE, faces(7)).age[0]) for _ in range(2 * EVERY + 1)]
    assert runner.batches == [1, 1, 1]
    assert ages[0] == ages[EVERY - 1] == 30 and ages[EVERY] == 35 and ages[2 * EVERY] == pytest.approx(40)


def test_new_faces_are_one_batch_and_keep_their_estimates_out_of_sight() -> None:
    runner = Runner([20.0, 60.0])
    attributes = TrackedAttributes(runner)  # type: ignore[arg-type]
    found = attributes.update(IMAGE, faces(1, 2))
    assert (
        runner.batches == [2] and found.age.tolist() == [20, 60] and found.female.tolist() == pytest.approx([0.8] * 2)
    )
    assert attributes.update(IMAGE, faces(2)).age.tolist() == [60]
    assert attributes.update(IMAGE, faces(1, 2)).age.tolist() == [20, 60]


def test_a_face_without_landmarks_is_not_estimated() -> None:
    runner = Runner([20.0])
    attributes = TrackedAttributes(runner)  # type: ignore[arg-type]
    some = faces(1, 2)
    some.landmarks[1] = np.nan
    found = attributes.update(IMAGE, some)
    assert runner.batches == [1] and found.age[0] == 20 and np.isnan(found.age[1]) and np.isnan(found.female[1])


def test_estimates_of_faces_long_gone_are_forgotten() -> None:
    runner = Runner([20.0] * (REMEMBERED + 3))
    attributes = TrackedAttributes(runner)  # type: ignore[arg-type]
    for i in range(REMEMBERED + 2):
        attributes.update(IMAGE, faces(i))
    attributes.update(IMAGE, faces(0))
    assert len(runner.batches) == REMEMBERED + 3


def blocks(blur: float = 0.0) -> Image:
    """Squares of 10 px in random greys, blurred."""
    greys = np.random.default_rng(2).integers(0, 256, (20, 20, 1)).astype(np.uint8).repeat(3, axis=2)
    pixels = greys.repeat(10, axis=0).repeat(10, axis=1)
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), blur), np.uint8) if blur else pixels


class UncertainRunner(Runner):
    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        return super().__call__(batch) | {"age_std": np.full(len(batch), 6.0, np.float32)}


def test_the_standard_deviation_goes_with_the_age_and_is_unknown_without_one() -> None:
    points = faces(1).landmarks
    found = estimate(UncertainRunner([30.0]), blocks(), points)  # type: ignore[arg-type]
    assert {k: v.tolist() for k, v in found.items()} == {"age": [30], "age_std": [6], "female": [pytest.approx(0.8)]}
    found = estimate(Runner([30.0]), blocks(), points)  # type: ignore[arg-type]
    assert found["age"].tolist() == [30] and np.isnan(found["age_std"]).all()


@pytest.mark.parametrize(("blur", "zoom", "known"), [(0.0, 1.0, True), (0.0, 0.25, False), (8.0, 1.0, False)])
def test_a_small_or_blurred_face_has_no_age(blur: float, zoom: float, known: bool) -> None:
    points = (faces(1).landmarks - 100) * zoom + 100
    found = estimate(UncertainRunner([30.0]), blocks(blur), points)  # type: ignore[arg-type]
    assert all(np.isfinite(values).all() == known for values in found.values())


def test_sharpness_falls_with_blur_and_not_with_contrast() -> None:
    values = [sharpness(blocks(blur)[:112, :112]) for blur in (0.0, 2.0, 4.0, 8.0)]
    assert values == sorted(values, reverse=True) and values[0] > 2 * MIN_SHARPNESS > 2 * values[3]
    assert sharpness((blocks()[:112, :112] // 3).astype(np.uint8)) == pytest.approx(values[0], rel=0.05)


def test_a_flat_crop_cannot_be_judged_by_its_sharpness() -> None:
    assert sharpness(IMAGE[:112, :112]) == np.inf


def test_looks_without_an_age_leave_the_mean_of_a_track_alone() -> None:
    attributes = TrackedAttributes(Runner([30.0, 99.0, 40.0]))  # type: ignore[arg-type]
    sharp, blurred = blocks(), blocks(8.0)
    ages = [attributes.update(blurred if n == EVERY else sharp, faces(7)).age[0] for n in range(2 * EVERY + 1)]
    assert ages[0] == ages[EVERY] == 30 and ages[2 * EVERY] == 35
