"""Pictures with several labelled faces, and further label files that name pictures in subfolders."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.bench.data.face_boxes import held_out_pictures, read_faces
from mien.bench.data.landmark_labels import read_landmarks
from mien.export.training.config import NetworkConfig
from mien.export.training.tasks.landmarks import LandmarkTraining
from mien.runtime.vision.geometry import box_from_bounds, landmark_bounds
from mien.tests.conftest import mean_shape, write_csv

PLACES = ((10, 20), (100, 40))
"""Top left corners in px of the two faces of each picture."""


def write_landmarks(folder: Path, rows: list[tuple[str, str, tuple[int, int]]]) -> None:
    """Write blank pictures and a landmark file with a face per row: name, subject and top left corner."""
    labels = []
    for name, subject, corner in rows:
        file = folder / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((120, 190, 3), 90, np.uint8))
        labels.append([name, "drawn", subject, *(mean_shape() * 70 + corner).ravel().round(3)])
    axes = [f"{axis}{i}" for i in range(68) for axis in "xy"]
    write_csv(folder / "landmarks.csv", ["file", "source", "subject", *axes], labels)


def write_depths(folder: Path, depths: list[tuple[str, float]]) -> None:
    """Write a depth file: each row gives the same depth in px to all points."""
    header = ["file", *(f"z{i}" for i in range(68))]
    write_csv(folder / "landmarks3d_pseudo.csv", header, [[name, *[depth] * 68] for name, depth in depths])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A landmark folder of 30 pictures with two faces each; every subject occurs in two pictures."""
    rows = [(f"{i}.png", f"person {(i + side) % 30}", PLACES[side]) for i in range(30) for side in (0, 1) if i % 3 != 2]
    write_landmarks(tmp_path, rows)
    return tmp_path


def test_a_picture_with_two_faces_is_one_row_on_one_side_of_the_split(pairs: Path) -> None:
    table, faces = read_landmarks(pairs), read_faces(pairs)
    assert len(table) == 40 and len(faces) == len(set(faces.files)) == 20
    for file, boxes in zip(faces.files, faces.boxes, strict=True):
        rows = [i for i, other in enumerate(table.files) if other == file]
        assert np.allclose(boxes, box_from_bounds(landmark_bounds(table.points[rows]))) and len(boxes) == 2
    # Person 1 links pictures 0 and 1, but nobody links these to picture 3.
    assert table.subjects[:6] == ("person 0",) * 4 + ("person 3",) * 2
    sides = {
        file: {bool(held) for f, held in zip(table.files, table.held_out(), strict=True) if f == file}
        for file in faces.files
    }
    assert [sides[file] for file in faces.files] == [{bool(held)} for held in held_out_pictures(pairs, faces)]
    assert 0 < table.held_out().sum() < len(table)


def test_landmarks_are_trained_beside_all_faces_of_their_picture(pairs: Path) -> None:
    write_csv(pairs / "boxes.csv", ["file", "x", "y", "w", "h"], [["1.png", 5, 5, 9, 9], ["0.png", 1, 1, 9, 9]])
    write_csv(
        pairs / "boxes_yunet.csv", ["file", "x", "y", "w", "h"], [["0.png", 85, 0, 9, 9], ["0.png", 12, 22, 60, 80]]
    )
    task = LandmarkTraining(pairs, NetworkConfig("mobilenet_v3_small", "none"), input_size=64)
    assert len(task.dataset.faces_of) == len(task.training) > 20
    for file, points, boxes in zip(task.training.files, task.training.points, task.dataset.faces_of, strict=True):
        assert len(boxes) == (3 if file.name == "0.png" else 2)
        assert (np.abs(boxes - box_from_bounds(landmark_bounds(points))).max(axis=1) < 1e-9).sum() == 1


def depths_of(folder: Path) -> list[float]:
    return read_landmarks(folder).depth[:, 0].tolist()


def test_further_labels_belong_to_the_picture_of_that_path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_landmarks(tmp_path, [("x/0.png", "a", PLACES[0]), ("y/0.png", "b", PLACES[0]), ("y/1.png", "c", PLACES[0])])
    write_depths(tmp_path, [("y\\0.png", 2.0), ("x/0.png", 1.0), ("1.png", 3.0)])  # the last name is the only such
    write_csv(tmp_path / "boxes_yunet.csv", ["file", "x", "y", "w", "h"], [["y/0.png", 150, 5, 9, 9]])
    assert depths_of(tmp_path) == [1.0, 2.0, 3.0]
    assert [len(boxes) for boxes in read_faces(tmp_path).boxes] == [1, 2, 1] and not caplog.text
    write_depths(tmp_path, [("0.png", 1.0), ("z/1.png", 2.0), ("1.png", 3.0)])
    with caplog.at_level(logging.WARNING, logger="mien"):
        assert np.array_equal(depths_of(tmp_path), [np.nan, np.nan, 3.0], equal_nan=True)
    assert "left out 2 names that no labelled picture has, or several: 0.png, z/1.png" in caplog.text


def test_depths_of_one_picture_are_in_the_order_of_its_faces(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_landmarks(tmp_path, [("0.png", "a", PLACES[0]), ("1.png", "b", PLACES[0]), ("0.png", "c", PLACES[1])])
    write_depths(tmp_path, [("0.png", 1.0), ("0.png", 3.0), ("1.png", 2.0)])
    assert depths_of(tmp_path) == [1.0, 2.0, 3.0]
    write_depths(tmp_path, [("0.png", 1.0), ("1.png", 2.0)])
    with caplog.at_level(logging.WARNING, logger="mien"):
        assert np.array_equal(depths_of(tmp_path), [np.nan, 2.0, np.nan], equal_nan=True)
    assert "left out 0.png, which has 1 row here and 2 rows in landmarks.csv" in caplog.text


def test_boxes_of_one_picture_written_in_two_ways_are_joined(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "0.png"), np.zeros((40, 40, 3), np.uint8))
    write_csv(tmp_path / "boxes.csv", ["file", "x", "y", "w", "h"], [["0.png", 0, 0, 9, 9], ["./0.png", 20, 20, 9, 9]])
    assert [len(boxes) for boxes in read_faces(tmp_path).boxes] == [2]
