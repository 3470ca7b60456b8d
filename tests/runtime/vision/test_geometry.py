from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.vision.crop import Crop, cut_crop
from mien.runtime.vision.geometry import (
    bounds_from_box,
    box_from_bounds,
    crop_matrix,
    intersection_over_union,
    invert_affine,
    landmark_bounds,
    transform_points,
)


def test_box_and_bounds_are_inverse() -> None:
    bounds = np.array([[10.0, 20.0, 50.0, 70.0], [0.0, 0.0, 8.0, 9.0]])
    assert np.allclose(bounds_from_box(box_from_bounds(bounds)), bounds)


def test_bounds_of_points() -> None:
    points = np.array([[[3.0, 4.0, 9.0], [1.0, 8.0, -9.0]]])
    assert landmark_bounds(points).tolist() == [[1.0, 4.0, 3.0, 8.0]]


@pytest.mark.parametrize("roll", [0.0, 0.4, -1.2])
def test_points_come_back_from_the_crop(roll: float) -> None:
    bounds = np.array([30.0, 40.0, 90.0, 80.0])
    matrix = crop_matrix(bounds, scale=1.3, size=112, roll=roll)
    crop = Crop(pixels=np.zeros((112, 112, 3), np.uint8), matrix=matrix)
    points = np.array([[35.0, 45.0, 3.0], [88.0, 79.0, -2.0]])
    fractions = transform_points(points, matrix)
    fractions[:, :2] += 0.5
    fractions /= 112
    assert np.allclose(crop.to_image(fractions), points)


def test_centre_of_the_bounds_is_the_centre_of_the_crop() -> None:
    crop = Crop(np.zeros((10, 10, 3), np.uint8), crop_matrix(np.array([0.0, 0.0, 9.0, 9.0]), scale=1.0, size=10))
    assert np.allclose(crop.to_image(np.array([[0.5, 0.5, 0.0]])), [[4.5, 4.5, 0.0]])


def test_roll_turns_the_face_upright() -> None:
    matrix = crop_matrix(np.array([0.0, 0.0, 10.0, 10.0]), scale=1.0, size=10, roll=np.pi / 2)
    # A line that runs down in the image, as the eyes of a face turned clockwise by 90°, runs to the right in the crop.
    a, b = transform_points(np.array([[5.0, 2.0], [5.0, 8.0]]), matrix)
    assert np.allclose(b - a, [6.0, 0.0])


def test_an_unknown_depth_leaves_x_and_y_known() -> None:
    matrix = np.array([[0.0, -2.0, 5.0], [2.0, 0.0, 7.0]])
    moved = transform_points(np.array([[3.0, 4.0, np.nan], [3.0, 4.0, 1.5]]), matrix)
    assert np.allclose(moved, [[-3.0, 13.0, np.nan], [-3.0, 13.0, 3.0]], equal_nan=True)


@pytest.mark.parametrize("side", [40, 400])
def test_a_crop_shows_what_lies_there(side: int) -> None:
    """A bright dot lands where the matrix says, also when the crop is taken from a reduced copy."""
    image = np.zeros((600, 600, 3), np.uint8)
    dot = side // 10
    centre = np.array([300.0 + side // 16, 300.0 - side // 8])
    image[int(centre[1]) - dot : int(centre[1]) + dot + 1, int(centre[0]) - dot : int(centre[0]) + dot + 1] = 255
    bounds = np.array([300 - side / 2, 300 - side / 2, 300 + side / 2, 300 + side / 2])
    crop = cut_crop(image, crop_matrix(bounds, scale=1.0, size=64), 64)
    weights = crop.pixels[..., 0].astype(float)
    ys, xs = np.mgrid[:64, :64]
    found = [(xs * weights).sum() / weights.sum(), (ys * weights).sum() / weights.sum()]
    assert np.allclose(found, transform_points(centre[None], crop.matrix)[0], atol=0.05)


@pytest.mark.parametrize("side", [40, 400])
def test_a_crop_of_a_panorama_is_that_of_its_part(side: int) -> None:
    """OpenCV 4 warps no image of 32,767 px."""
    image = np.zeros((500, 33_000, 3), np.uint8)
    image[:, 32_000:] = np.random.default_rng(0).integers(0, 256, (500, 1000, 3), dtype=np.uint8)
    bounds = np.array([500 - side / 2, 250 - side / 2, 500 + side / 2, 250 + side / 2])
    part = cut_crop(image[:, 32_000:], crop_matrix(bounds, scale=1.0, size=64, roll=0.3), 64)
    whole = cut_crop(image, crop_matrix(bounds + [32_000, 0, 32_000, 0], scale=1.0, size=64, roll=0.3), 64)
    assert np.abs(part.pixels.astype(int) - whole.pixels).max() <= 2 and part.pixels.std() > 5


def test_outside_of_the_image_is_black() -> None:
    image = np.full((20, 20, 3), 255, np.uint8)
    crop = cut_crop(image, crop_matrix(np.array([100.0, 100.0, 120.0, 120.0]), scale=1.0, size=16), 16)
    assert not crop.pixels.any()
    tiny = cut_crop(image, crop_matrix(np.array([-500.0, -500.0, 500.0, 500.0]), scale=1.0, size=16), 16)
    assert tiny.pixels.shape == (16, 16, 3)


def test_iou() -> None:
    a = np.array([[0.0, 0.0, 2.0, 2.0]])
    b = np.array([[1.0, 0.0, 3.0, 2.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    assert np.allclose(intersection_over_union(a, b), [[1 / 3, 1.0, 0.0]])
    assert intersection_over_union(a, np.empty((0, 4))).shape == (1, 0)


def test_inverse_of_an_affine_map() -> None:
    matrix = crop_matrix(np.array([3.0, 4.0, 50.0, 60.0]), scale=1.2, size=32, roll=0.3)
    points = np.array([[1.0, 2.0], [-3.0, 7.0]])
    assert np.allclose(transform_points(transform_points(points, matrix), invert_affine(matrix)), points)
