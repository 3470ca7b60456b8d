from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from mien.runtime.tracking.patch import cut_patch, find_patch, likeness
from mien.runtime.values import Image

BOX = np.array([100.0, 80, 140, 132])


def noise(seed: int) -> Image:
    small = np.random.default_rng(seed).integers(30, 200, (30, 40, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (320, 240), interpolation=cv2.INTER_CUBIC), np.uint8)


def test_likeness_ignores_light() -> None:
    picture = noise(0)
    brighter = np.asarray(np.clip(picture * 1.1 + 20, 0, 255), np.uint8)
    assert likeness(cut_patch(picture, BOX), cut_patch(brighter, BOX)) > 0.98
    assert likeness(cut_patch(picture, BOX), cut_patch(noise(1), BOX)) < 0.5


@pytest.mark.parametrize("moved", [(0.0, 0.0), (3.3, -2.6), (-20.0, 25.0)])
@pytest.mark.parametrize("zoom", [0.4, 1.0, 4.0])
def test_a_moved_face_is_found(moved: tuple[float, float], zoom: float) -> None:
    before = noise(0)
    after = cv2.warpAffine(before, np.array([[1.0, 0, moved[0]], [0, 1.0, moved[1]]]), (320, 240))
    before, after = (np.asarray(cv2.resize(p, None, fx=zoom, fy=zoom), np.uint8) for p in (before, after))
    box, correlation = find_patch(after, cut_patch(before, zoom * BOX), zoom * BOX)
    assert np.abs(box - zoom * (BOX + np.tile(moved, 2))).max() < 1.2 * zoom and correlation > 0.9


def test_a_face_that_has_gone_is_not_found() -> None:
    assert find_patch(noise(1), cut_patch(noise(0), BOX), BOX)[1] < 0.6


def test_the_same_face_is_found_at_the_border() -> None:
    box = np.array([-12.0, -10, 30, 44])
    assert find_patch(noise(0), cut_patch(noise(0), np.maximum(box, 0)), np.maximum(box, 0))[1] > 0.95


def test_a_face_that_leaves_the_picture_looks_like_itself() -> None:
    leaving = [cut_patch(noise(0)[:, x:], BOX - [x, 0, x, 0]) for x in (100, 108, 116)]
    assert likeness(cut_patch(noise(0), BOX), leaving[0]) > 0.99
    assert min(likeness(a, b) for a, b in pairwise(leaving)) > 0.8


@pytest.mark.parametrize("box", [[400.0, 400, 420, 420], [-50.0, -50, -10, -10], [10.0, 10, 10, 10]])
def test_what_lies_outside_is_flat(box: list[float]) -> None:
    patch = cut_patch(noise(0), np.array(box))
    assert not patch.any() and likeness(patch, patch) == 1


def test_a_flat_patch_is_found_nowhere() -> None:
    plain = np.full((240, 320, 3), 90, np.uint8)
    box, correlation = find_patch(plain, cut_patch(plain, BOX), BOX)
    assert correlation == 0 and np.array_equal(box, BOX)
