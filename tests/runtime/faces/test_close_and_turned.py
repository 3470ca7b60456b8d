"""Faces that fill the picture, and faces turned in its plane, on the photograph that the demo camera films."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.faces import turned
from mien.runtime.faces.turned import find_turned
from mien.runtime.pictures.images import read_image
from mien.runtime.pipeline.pipeline import Pipeline
from mien.runtime.values import Faces, Image
from mien.runtime.vision.geometry import transform_points


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    with Pipeline.load(attributes=False, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def photo() -> Image:
    return read_image(find_photo()[0])


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean distance of the points, in outer eye distances."""
    eyes = np.linalg.norm(wanted[36, :2] - wanted[45, :2])
    return float(np.linalg.norm(found[:, :2] - wanted[:, :2], axis=1).mean() / eyes)


@pytest.mark.parametrize("side", [64, 200, 320, 380, 399, 420, 640, 1500])
def test_a_face_that_fills_the_picture_is_found(pipeline: Pipeline, photo: Image, side: int) -> None:
    (box, *_), points = pipeline(photo).boxes.round().astype(int), pipeline(photo).landmarks[0]
    x0, y0, x1, y1 = box
    cropped = cv2.resize(photo[y0:y1, x0:x1], (side, round(side * (y1 - y0) / (x1 - x0))))
    zoom = side / (x1 - x0)
    found = pipeline(cropped)
    assert len(found) == 1
    assert error(found.landmarks[0], (points[:, :2] - [x0, y0]) * zoom) < 0.08


@pytest.mark.parametrize("angle", [60, 90, 135, 180, 225, 300])
def test_a_face_turned_by_any_angle_is_found(pipeline: Pipeline, photo: Image, angle: int) -> None:
    points = pipeline(photo).landmarks[0]
    side = 2 * max(photo.shape[:2])
    matrix = cv2.getRotationMatrix2D((photo.shape[1] / 2, photo.shape[0] / 2), angle, 1.0)
    matrix[:, 2] += [side / 2 - photo.shape[1] / 2, side / 2 - photo.shape[0] / 2]
    turned = np.asarray(cv2.warpAffine(photo, matrix, (side, side)), np.uint8)
    found = pipeline(turned)
    wanted = transform_points(points[:, :2], matrix)
    assert error(found.landmarks[0], wanted) < 0.08
    x0, y0, x1, y1 = found.boxes[0]
    assert x0 < wanted[30, 0] < x1 and y0 < wanted[30, 1] < y1


def test_a_turned_face_in_a_long_strip_is_found_without_a_square_of_its_length(
    pipeline: Pipeline, photo: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    (box, *_) = pipeline(photo).boxes.round().astype(int)
    x0, y0, x1, y1 = (int(v) for v in box)
    strip = np.full((y1 - y0 + 400, 6000, 3), 128, np.uint8)
    strip[200 : 200 + y1 - y0, 5000 : 5000 + x1 - x0] = photo[y0:y1, x0:x1][::-1, ::-1]
    copies: list[tuple[int, ...]] = []
    warp = turned.cv2.warpAffine
    monkeypatch.setattr(turned.cv2, "warpAffine", lambda *a, **k: copies.append(a[2]) or warp(*a, **k))
    found = find_turned(strip, pipeline._find_upright, Faces.empty())
    assert max(side for size in copies for side in size) <= 3000
    assert len(found) == 1 and 5000 < found.landmarks[0, 30, 0] < 5000 + x1 - x0
    assert 200 < found.landmarks[0, 30, 1] < 200 + y1 - y0


def test_a_picture_without_a_face_stays_without(pipeline: Pipeline) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    assert len(pipeline(cv2.GaussianBlur(noise, (0, 0), 5))) == 0
