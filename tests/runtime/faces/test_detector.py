"""Sizes of faces that the shipped detector finds, on the photograph that the demo camera films."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from mien.runtime.backends.open_runner import open_model
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.faces.detector import OwnDetector
from mien.runtime.models.shipped import shipped_model
from mien.runtime.pictures.images import read_image
from mien.runtime.values import Image


@pytest.fixture(scope="module")
def detector() -> Iterator[OwnDetector]:
    opened = OwnDetector(open_model(shipped_model("detector"), threads=1))
    yield opened
    opened.close()


def photo(width: int) -> Image:
    """Return the photograph, of this width, in the middle of a grey picture of 640 × 480."""
    picture = read_image(find_photo()[0])
    picture = np.asarray(cv2.resize(picture, None, fx=width / picture.shape[1], fy=width / picture.shape[1]), np.uint8)
    canvas = np.full((480, 640, 3), 127, np.uint8)
    height = min(picture.shape[0], 480)
    top, left = (480 - height) // 2, (640 - width) // 2
    canvas[top : top + height, left : left + width] = picture[:height]
    return canvas


def test_a_search_for_small_faces_runs_the_model_once_and_leaves_large_ones_out(
    detector: OwnDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, sizes = detector.runner, []

    class Counting:
        spec = runner.spec

        def __call__(self, batch: Image) -> dict[str, np.ndarray]:
            sizes.append(batch.shape[1:3])
            return runner(batch)

    monkeypatch.setattr(detector, "runner", Counting())
    small, large = (detector(photo(width), small_only=True)[0] for width in (120, 600))
    assert sizes == [(480, 640)] * 2 and len(small) == 1 and len(large) == 0
    for found, width in ((small[0], 120), (detector(photo(600))[0][0], 600)):
        assert 0.1 * width < found[2] - found[0] < 0.7 * width
