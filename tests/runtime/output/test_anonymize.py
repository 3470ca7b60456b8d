"""Hidden faces stay hidden: in pictures and video, at borders, between detections, and while they are out of sight."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mien import Faces, Frame, blur_faces
from mien.cli import app
from mien.runtime.capture.demo_camera import DemoCamera
from mien.runtime.output.anonymize import CELLS
from mien.runtime.stage_timer import StageTimer
from mien.runtime.tracking.detection_schedule import DetectionSchedule
from mien.runtime.tracking.tracker import Tracker
from mien.runtime.values import Image
from mien.tests.clips import demo_frames, write_clip
from mien.tests.fakes.moving_faces import FPS, Drawn, Film
from mien.tests.runtime.live.test_live_run import Capture, Sink, live_run


def noise(seed: int = 0, shape: tuple[int, int] = (120, 160)) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def at(*boxes: tuple[float, float, float, float]) -> Faces:
    return Faces.from_boxes(np.array(boxes, dtype=float).reshape(-1, 4), np.ones(len(boxes)))


def test_a_box_without_extent_hides_the_pixel_it_lies_in() -> None:
    picture = noise()
    hidden = blur_faces(picture, at((20.5, 30.5, 20.5, 60)))
    changed = np.argwhere((hidden != picture).any(axis=2))
    assert changed.size and (changed[:, 1] == 20).all() and changed[:, 0].min() < 30 and changed[:, 0].max() > 60


def test_only_the_mean_of_each_cell_is_left() -> None:
    """Two pictures whose pixels differ within the cells become one and the same."""
    picture, cell = noise(), 10
    shuffled = picture.copy()
    for y in range(20, 80, cell):
        for x in range(30, 90, cell):
            pixels = picture[y : y + cell, x : x + cell].reshape(-1, 3)
            shuffled[y : y + cell, x : x + cell] = np.random.default_rng(x).permutation(pixels).reshape(cell, cell, 3)
    hidden = [blur_faces(p, at((30, 20, 30 + CELLS * cell, 20 + CELLS * cell)), margin=0) for p in (picture, shuffled)]
    assert (picture != shuffled).any() and np.array_equal(*hidden)


@pytest.mark.parametrize("box", [(60, 50, 90, 80), (-20, 30, 25, 75), (140, 100, 170, 130), (70.4, 60.7, 71, 61.2)])
def test_the_margin_is_hidden_and_the_rest_untouched(box: tuple[float, float, float, float]) -> None:
    picture = noise()
    before = picture.copy()
    hidden = blur_faces(picture, at(box))
    x0, y0, x1, y1 = box
    grown = np.array([x0 - 0.3 * (x1 - x0), y0 - 0.3 * (y1 - y0), x1 + 0.3 * (x1 - x0), y1 + 0.3 * (y1 - y0)])
    inside = np.zeros((120, 160), bool)
    left, top = np.floor(grown[:2]).astype(int).clip(0).tolist()
    right, bottom = np.ceil(grown[2:]).astype(int).tolist()
    inside[top:bottom, left:right] = True
    assert np.array_equal(picture, before) and np.array_equal(hidden[~inside], picture[~inside])
    if inside.sum() > 100:
        detail = [float(np.abs(np.diff(p.astype(float), axis=1))[inside[:, 1:]].mean()) for p in (picture, hidden)]
        assert detail[1] < 0.15 * detail[0]


def test_cells_at_the_border_are_no_finer() -> None:
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[:, :10:2] = 255
    hidden = blur_faces(picture, at((-50, 20, 10, 80)), margin=0)
    assert np.ptp(hidden[20:80, :10].astype(int), axis=(0, 1)).max() <= 1  # one column of cells


def test_nothing_to_hide_is_left_as_it_is() -> None:
    picture = noise()
    assert np.array_equal(blur_faces(picture, Faces.empty()), picture)
    assert np.array_equal(blur_faces(picture, at((500, 500, 600, 600), (-90, -90, -20, -20))), picture)


def thorough(film: Film, frames: int) -> list[Faces]:
    timer = StageTimer()
    schedule = DetectionSchedule(film, every=1, timer=timer)
    tracker = Tracker(schedule, film.locate, timer=timer, thorough=True)
    return [tracker.update(film.frame(i)) for i in range(frames)]


def covers(faces: Faces, face: Drawn) -> bool:
    x0, y0, x1, y1 = face.box
    return bool(((faces.boxes[:, :2] <= [x0 + 9, y0 + 9]) & (faces.boxes[:, 2:] >= [x1 - 9, y1 - 9])).all(1).any())


def test_a_face_out_of_sight_is_hidden_for_two_seconds_where_it_should_be() -> None:
    film = Film(lambda i: [Drawn(1, 60 + 3 * i, 100)] * (i <= 20))
    results = thorough(film, 21 + 3 * FPS)
    assert all(covers(results[i], Drawn(1, 60 + 3 * i, 100)) for i in range(26))
    assert all(np.isfinite(f.scores).all() for f in results[:21]) and np.isnan(results[22].scores).all()
    assert len(results[20 + 2 * FPS - 2]) == 1 and len(results[20 + 2 * FPS + 2]) == 0
    assert np.isfinite(results[20].landmarks[:, :, 0]).all()
    assert all(np.isnan(f.landmarks).all() for f in results[22:]), "its age would be estimated from what covers it"


def test_a_doubtful_face_is_hidden_in_its_first_frame() -> None:
    film = Film(lambda i: [Drawn(1, 100, 100, score=0.45)] * (i >= 5), presence=0.1)
    results = thorough(film, 8)
    assert [len(f) for f in results] == [0] * 5 + [1] * 3 and film.searched == list(range(8))


def test_no_sink_receives_a_face() -> None:
    class Noise(Capture):
        def wait_frame(self, timeout_s: float) -> Frame | None:
            frame = super().wait_frame(timeout_s)
            return None if frame is None else Frame(noise(shape=(48, 64)), frame.timestamp_ns, frame.index)

    class Keeper(Sink):
        needs_picture = False

        def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
            return super().write(frame, faces, frame.pixels)

    sink, original = Keeper(), noise(shape=(48, 64)).astype(int)
    live_run(Noise(4), [sink], blur=True).run()
    assert len(sink.pictures) == 4
    for picture in sink.pictures:
        inner = np.abs(np.diff(picture[8:42, 8:42].astype(int), axis=1))
        assert inner.mean() < 0.15 * np.abs(np.diff(original[8:42, 8:42], axis=1)).mean()
        assert np.array_equal(picture[:, 52:], original[:, 52:])


def sharpness(picture: Image, index: int) -> float:
    """Detail of the middle of the demo face in a picture, where no box is drawn."""
    corners = DemoCamera().face_corners(index)
    inner = corners.mean(axis=0) + 0.6 * (corners - corners.mean(axis=0))
    (x0, y0), (x1, y1) = inner.min(axis=0).astype(int).tolist(), inner.max(axis=0).astype(int).tolist()
    return float(np.abs(cv2.Laplacian(picture[y0:y1, x0:x1], cv2.CV_64F)).mean())


def test_commands_hide_faces_in_video_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    camera = DemoCamera()
    write_clip(Path("clip.mp4"), demo_frames(6))
    cv2.imwrite("photo.png", camera.frame(0))
    for command in (
        ["webcam", "clip.mp4", "--blur", "--output", "blurred.mp4", "--no-show"],
        ["predict", "clip.mp4", "photo.png", "--blur", "--draw", "drawn"],
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    for path in ("blurred.mp4", "drawn/clip.mp4"):
        video = cv2.VideoCapture(path)
        details = [sharpness(video.read()[1], i) / sharpness(camera.frame(i), i) for i in range(6)]
        assert max(details) < 0.3, details
    assert sharpness(cv2.imread("drawn/photo.png"), 0) < 0.3 * sharpness(camera.frame(0), 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["predict", "x.png", "--blur"], "add --draw DIR"),
        (["predict", "x.png", "--blur", "--draw", "d", "--view3d", "v.html"], "omit one of them"),
        (["predict", "x.png", "--blur", "--draw", "d", "--max-faces", "1"], "--blur hides every face"),
        (["webcam", "demo", "--no-show", "--blur", "--region", "0,0,1,0.5"], "--blur hides every face"),
    ],
)
def test_what_would_show_a_face_is_refused(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and told in result.stderr and result.stderr.count("\n") == 1
