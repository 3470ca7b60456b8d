"""Points follow the orientation in which their picture was labelled."""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.bench.data.face_boxes import read_faces
from mien.bench.data.landmark_labels import MIRRORED, read_landmarks
from mien.bench.data.picture_size import read_size
from mien.runtime.errors import InputError
from mien.runtime.pictures.images import read_image


def write_turned(path: Path, pixels: np.ndarray, orientation: int, order: str = "<") -> None:
    """Write a JPEG file with an EXIF orientation, behind a thumbnail-sized other segment."""
    encoded = cv2.imencode(".jpg", pixels)[1].tobytes()
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 2)
    tiff += struct.pack(order + "HHII", 0x0100, 3, 1, 7) + struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0" + tiff + struct.pack(order + "I", 0)
    comment = b"\xff\xfe" + struct.pack(">H", 40_002) + b"\xff" * 40_000
    path.write_bytes(encoded[:2] + comment + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + encoded[2:])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_sizes_and_points_are_those_of_the_picture_as_it_is_read(tmp_path: Path, orientation: int, order: str) -> None:
    pixels = np.zeros((48, 80, 3), np.uint8)
    pixels[8:16, 56:64] = 255  # its centre is at (59.5, 11.5)
    write_turned(tmp_path / "a.jpg", pixels, orientation, order)
    size = read_size(tmp_path / "a.jpg")
    shown = read_image(tmp_path / "a.jpg")
    assert size is not None and size.stored == (80, 48) and size.upright == shown.shape[1::-1]
    y, x = (axis.mean() for axis in np.nonzero(shown[..., 0] > 128))
    assert np.allclose(size.turn(np.array([[59.5, 11.5]])), [[x, y]], atol=0.3)
    assert size.is_mirrored == (orientation in (2, 4, 5, 7))


def test_other_formats_are_decoded_and_what_is_no_picture_has_no_size(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe1\x00\x00")
    (tmp_path / "c.jpg").write_bytes(b"text")
    assert [getattr(read_size(tmp_path / n), "upright", None) for n in ("a.png", "b.jpg", "c.jpg", "d.jpg")] == [
        (30, 20),
        None,
        None,
        None,
    ]


def labelled_as(folder: Path, orientation: int, *, as_stored: bool) -> np.ndarray:
    """Store the first drawn face so that EXIF turns it upright, 150 × 160 px; returns its points as shown."""
    table = read_landmarks(folder)
    shown = read_image(table.files[0])[:, :150]
    stored = {5: cv2.transpose(shown), 6: np.rot90(shown), 7: cv2.transpose(shown)[::-1, ::-1], 8: np.rot90(shown, -1)}
    name = folder / "images" / "turned.jpg"
    write_turned(name, np.ascontiguousarray(stored[orientation]), orientation)
    points = table.points[0].copy()
    labels, size = points, (150, 160)
    if as_stored:
        x, y = points.T
        right, bottom = 149 - x, 159 - y
        labels = np.stack({5: (y, x), 6: (y, right), 7: (bottom, right), 8: (bottom, x)}[orientation], axis=1)
        labels = labels[MIRRORED] if orientation in (5, 7) else labels
        size = (160, 150)
    with (folder / "landmarks.csv").open(newline="") as handle:
        header, *rows = csv.reader(handle)
    rows[0] = ["turned.jpg", "drawn", "person0", *map(str, size), *map(str, labels.ravel())]
    with (folder / "landmarks.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
    return points


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("as_stored", [False, True])
def test_labels_mean_the_orientation_that_their_own_size_agrees_with(
    landmark_folder: Path, orientation: int, as_stored: bool
) -> None:
    points = labelled_as(landmark_folder, orientation, as_stored=as_stored)
    assert np.allclose(read_landmarks(landmark_folder).points[0], points, atol=1e-6)


def test_labels_of_a_picture_of_another_size_are_refused(landmark_folder: Path) -> None:
    cv2.imwrite(str(landmark_folder / "images" / "face_03.png"), np.zeros((320, 320, 3), np.uint8))
    with pytest.raises(InputError, match=r"face_03.png are for a picture of 160 × 160 px, but it has 320 × 320 px"):
        read_landmarks(landmark_folder)


def test_a_damaged_picture_is_left_to_those_who_read_it(landmark_folder: Path) -> None:
    (landmark_folder / "images" / "face_03.png").write_bytes(b"broken")
    assert len(read_landmarks(landmark_folder)) == 24


def test_a_box_outside_its_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images" / "sub").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images" / "sub" / "a.png"), np.zeros((40, 60, 3), np.uint8))
    (tmp_path / "boxes.csv").write_text("file,x,y,w,h\nsub/a.png,50,30,20,20\nsub/a.png,-5,0,10,10\n")
    faces = read_faces(tmp_path)  # partly outside, as where a picture ends in a face
    assert len(faces) == 1 and len(faces.boxes[0]) == 2
    (tmp_path / "boxes.csv").write_text("file,x,y,w,h\nsub/a.png,10,10,5,5\nsub/a.png,10,45,5,5\n")
    with pytest.raises(InputError, match=r"the box 10,45,5,5 of a.png lies outside the picture, which has 60 × 40 px"):
        read_faces(tmp_path)
