"""What is drawn of faces: labels that hide nothing, sizes that follow the face, parts that can be left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mien import Faces, MienError, blur_faces, draw_faces
from mien.cli import app
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.output.label_layout import place_labels
from mien.runtime.output.overlay import AXES_FROM_PX, USUAL, OverlayStyle
from mien.runtime.values import Image
from mien.runtime.vision.geometry import bounds_from_box, overlap_area
from mien.runtime.vision.mean_face import CANONICAL

NO_LANDMARKS = OverlayStyle(landmarks=False, axes=False)


def at(*boxes: tuple[float, float, float, float]) -> Faces:
    """Faces with all that a label tells, and landmarks that fill the boxes."""
    n = len(boxes)
    faces = Faces.from_boxes(np.array(boxes, dtype=float).reshape(-1, 4), np.ones(n))
    points = (CANONICAL - CANONICAL.min(axis=0)) / np.ptp(CANONICAL, axis=0)
    bounds = bounds_from_box(faces.boxes)[:, None]
    landmarks = np.concatenate([bounds[..., :2] + points[:, :2] * (bounds[..., 2:] - bounds[..., :2])], axis=2)
    depth = points[None, :, 2:] * (bounds[..., 2:3] - bounds[..., :1])
    landmarks = np.concatenate([landmarks, depth], axis=2)
    return faces.with_fields(landmarks=landmarks, age=np.full(n, 34.0), female=np.ones(n), track_id=np.arange(n) + 10)


def changed(style: OverlayStyle, without: OverlayStyle, faces: Faces, hud: tuple[str, ...] = ()) -> np.ndarray:
    picture = np.full((240, 320, 3), 120, np.uint8)
    return (draw_faces(picture, faces, hud=hud, style=style) != draw_faces(picture, faces, hud=hud, style=without)).any(
        2
    )


def labels(faces: Faces, hud: tuple[str, ...] = ()) -> np.ndarray:
    """Where labels are drawn."""
    return changed(NO_LANDMARKS, replace(NO_LANDMARKS, labels=False), faces, hud)


def test_random_labels_stay_in_the_picture_and_off_everything() -> None:
    random, placed = np.random.default_rng(0), 0
    for _ in range(200):
        corners = random.uniform(-20, 320, (8, 2))
        boxes = np.concatenate([corners, corners + random.uniform(10, 150, (8, 2))], axis=1)
        sizes = [(int(w), int(h)) for w, h in random.integers((30, 8), (120, 24), (8, 2))]
        hud = np.array([[0.0, 0, 150, 50]])
        places = place_labels(sizes, boxes, (320, 240), taken=hud)
        placed_labels = [(*p, *s) for p, s in zip(places, sizes, strict=True) if p is not None]
        drawn = np.array([[x, y, x + w, y + h] for x, y, w, h in placed_labels]).reshape(-1, 4)
        owners = [i for i, place in enumerate(places) if place is not None]
        placed += len(owners)
        assert (drawn[:, :2] >= 0).all() and (drawn[:, 2:] <= [320, 240]).all()
        for i, label in zip(owners, drawn.astype(float), strict=True):
            others = np.concatenate([hud, np.delete(boxes, i, axis=0), np.delete(drawn, owners.index(i), axis=0)])
            assert not overlap_area(label[None], others).any()
    assert placed > 300  # of 1600 in such a crowd


@pytest.mark.parametrize(
    "box",
    [
        (5, 5, 60, 70),
        (250, 2, 318, 90),
        (2, 150, 80, 238),
        (230, 160, 319, 239),
        (-30, -40, 350, 300),
        (140, 90, 150, 102),
    ],
)
def test_a_label_is_whole_wherever_the_face_is(box: tuple[float, float, float, float]) -> None:
    rows, columns = np.nonzero(labels(at(box)))
    middle = np.nonzero(labels(at((140, 90, 140 + box[2] - box[0], 90 + box[3] - box[1]))))
    assert np.ptp(columns) == np.ptp(middle[1]) and np.ptp(rows) == np.ptp(middle[0])


def test_neither_hud_nor_another_face_is_covered() -> None:
    hud = ("60 fps  inference 10.0 ms  cpu", "1 face")
    faces = at((20, 36, 90, 110), (22, 114, 92, 190), (100, 100, 170, 180))
    where = labels(faces, hud)
    picture = np.full((240, 320, 3), 120, np.uint8)
    plate = (draw_faces(picture, Faces.empty(), hud=hud) != picture).any(2)
    assert where.any() and not (where & plate).any()
    for i in range(3):
        own = labels(faces.mask(np.array([i])), hud)
        assert own.any()
    for x0, y0, x1, y1 in faces.boxes.astype(int):
        assert not where[y0 + 1 : y1, x0 + 1 : x1].any()


def test_a_label_without_room_is_left_out() -> None:
    crowd = at(*[(40.0 * c, 40.0 * r, 40.0 * c + 40, 40.0 * r + 40) for r in range(6) for c in range(8)])
    assert not labels(crowd).any()


def test_sizes_follow_the_face() -> None:
    def height(side: float) -> int:
        return int(np.ptp(np.nonzero(labels(at((100, 60, 100 + side, 60 + side))))[0]))

    assert height(20) < height(120)
    edges = [
        draw_faces(np.zeros((1200, 1200, 3), np.uint8), at((100, 100, 100 + s, 100 + s)), style=NO_LANDMARKS)
        for s in (100, 900)
    ]
    widths = [int((p[100 + s // 2, 90:115] > 0).any(1).sum()) for p, s in zip(edges, (100, 900), strict=True)]
    assert widths[0] <= 3 < widths[1]


def test_unreliable_landmarks_are_not_drawn() -> None:
    faces = at((100, 60, 200, 180))
    for presence, drawn in ((np.nan, True), (0.9, True), (0.1, False)):
        assert changed(USUAL, NO_LANDMARKS, faces.with_fields(presence=np.array([presence]))).any() == drawn


def test_what_is_no_picture_is_refused() -> None:
    for wrong, told in ((None, "did cv2.imread find the file?"), (Faces.empty(), "found Faces")):
        for function in (draw_faces, blur_faces):
            with pytest.raises(MienError, match=told.replace("?", r"\?")):
                function(wrong, Faces.empty())


def test_axes_are_for_large_faces_unless_asked_for() -> None:
    small, large = at((100, 60, 140, 110)), at((100, 60, 200, 60 + AXES_FROM_PX + 20))
    never, always = replace(USUAL, axes=False), replace(USUAL, axes=True)
    assert not changed(USUAL, never, small).any() and changed(always, never, small).any()
    assert changed(USUAL, never, large).any() and not changed(USUAL, always, large).any()


@pytest.mark.parametrize("part", ["boxes", "labels", "landmarks", "contours"])
def test_each_part_can_be_left_out(part: str) -> None:
    assert changed(USUAL, replace(USUAL, **{part: False}), at((100, 60, 200, 180))).any()
    nothing = OverlayStyle(boxes=False, labels=False, landmarks=False, axes=False)
    picture = np.full((240, 320, 3), 120, np.uint8)
    assert np.array_equal(draw_faces(picture, at((100, 60, 200, 180)), style=nothing), picture)


def test_commands_take_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo = cv2.imread(str(find_photo()[0]))
    cv2.imwrite("photo.png", photo)

    def drawn(*options: str) -> Image:
        result = CliRunner().invoke(app, ["predict", "photo.png", "--draw", "drawn", "--json", "rows.jsonl", *options])
        assert result.exit_code == 0, result.output
        return cv2.imread(str(max(Path("drawn").iterdir(), key=lambda p: p.stat().st_mtime_ns)))

    usual = drawn()
    x0, y0, _, y1 = map(round, json.loads(Path("rows.jsonl").read_text())["faces"][0]["box"])
    middle = slice(y0 + 10, y1 - 10)
    assert (usual[middle, x0] != photo[middle, x0]).any(1).mean() > 0.9
    assert (drawn("--no-boxes")[middle, x0] != photo[middle, x0]).any(1).mean() < 0.2
    assert (drawn("--line-width", "9")[middle, x0 - 3] != photo[middle, x0 - 3]).any(1).mean() > 0.9
    for option in ("--no-labels", "--no-axes"):
        assert (drawn(option) != usual).any()

    def filmed(*options: str) -> Image:
        command = ["webcam", "demo", "--no-show", "--max-frames", "3", "--output", "o.mp4", "--no-labels"]
        result = CliRunner().invoke(app, [*command, *options])
        assert result.exit_code == 0, result.output
        video = cv2.VideoCapture("o.mp4")
        return [video.read()[1] for _ in range(3)][-1]

    def plate(picture: Image) -> float:
        return float((np.abs(picture[6:12, 6:60].astype(int) - 30).max(axis=2) < 12).mean())

    assert plate(filmed()) > 0.5 > plate(filmed("--no-hud"))
