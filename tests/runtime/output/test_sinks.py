from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.runtime.atomic_file import remove_unfinished
from mien.runtime.errors import OutputError
from mien.runtime.output import sinks
from mien.runtime.output.opencv_encoder import CODECS, OpenCvEncoder
from mien.runtime.output.overlay import CONTOURS, draw_faces
from mien.runtime.output.rows import RowFile, RowSink, csv_file
from mien.runtime.output.sinks import BackgroundSink, close_all
from mien.runtime.output.video_file import RESERVE_BYTES, VideoSink
from mien.runtime.values import Faces, Frame, Image
from mien.tests.clips import demo_frames


def frame(index: int, size: tuple[int, int] = (48, 64)) -> Frame:
    pixels = np.full((*size, 3), 40 * (index % 5), np.uint8)
    return Frame(pixels=pixels, timestamp_ns=index, index=index)


def count(path: Path) -> int:
    video = cv2.VideoCapture(str(path))
    n = 0
    while video.read()[0]:
        n += 1
    video.release()
    return n


class Recorder:
    needs_picture = False

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.closed = 0
        self.go = threading.Event()
        self.fail_at: int | None = None
        self.stop_at: int | None = None

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        self.go.wait(5)
        if frame.index == self.fail_at:
            raise OutputError("disk full")
        self.seen.append(frame.index)
        return frame.index != self.stop_at

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi", ".mkv", ".webm"])
def test_video_has_every_frame_and_its_name_at_the_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    sink = VideoSink(path, fps=25)
    for i in range(7):
        picture = frame(i, (48 + 16 * (i > 4), 64)).pixels
        assert sink.write(Frame(picture, timestamp_ns=i * 40_000_000, index=i), Faces.empty(), picture)
    assert not path.exists()
    sink.close()
    sink.close()
    assert count(path) == 7 and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_opencv_writes_nothing_larger_than_motion_jpeg(tmp_path: Path) -> None:
    picture = demo_frames(1)[0]
    for suffix in CODECS:
        encoder = OpenCvEncoder(tmp_path / f"out{suffix}", (640, 480), fps=25)
        for i in range(5):
            encoder.append(picture, i * 40_000_000)
        encoder.close()
    sizes = {path.suffix: path.stat().st_size for path in tmp_path.iterdir()}
    assert len(sizes) == 5 and max(sizes.values()) == sizes[".avi"], sizes


def test_dropped_frames_are_filled_by_the_last_one(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.avi", fps=10)
    for i in (0, 1, 4, 5):
        late = Frame(frame(i).pixels, timestamp_ns=1_000_000_000 + i * 100_000_000, index=i)
        sink.write(late, Faces.empty(), late.pixels)
    sink.close()
    assert count(tmp_path / "out.avi") == 6


def test_a_long_gap_is_left_out_once_and_for_all(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.avi", fps=10)
    for i in [0, 1, 2, *range(602, 612)]:  # a minute without a picture
        late = Frame(frame(i).pixels, timestamp_ns=i * 100_000_000, index=i)
        sink.write(late, Faces.empty(), late.pixels)
    sink.close()
    assert count(tmp_path / "out.avi") == 13


def test_a_full_disk_ends_a_video_that_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.mp4"
    sink = VideoSink(path, fps=2)
    halves = [Frame(frame(i).pixels, timestamp_ns=i * 500_000_000, index=i) for i in range(3)]
    sink.write(halves[0], Faces.empty(), halves[0].pixels)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=RESERVE_BYTES - 1))
    sink.write(halves[1], Faces.empty(), halves[1].pixels)  # room is asked for once a second
    with pytest.raises(OutputError, match=r"is full.*after 3 frames"):
        sink.write(halves[2], Faces.empty(), halves[2].pixels)
    sink.close()
    assert count(path) == 3


def test_a_video_that_a_full_disk_has_left_empty_is_no_second_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    monkeypatch.setattr(OpenCvEncoder, "_write", lambda *_: None)
    sink = VideoSink(tmp_path / "out.avi", fps=25)
    with pytest.raises(OutputError, match="the disk is full, 0 MB left"):
        sink.write(frame(0), Faces.empty(), frame(0).pixels)
    sink.close()
    assert not list(tmp_path.iterdir())


def test_a_video_that_does_not_play_is_an_error(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.avi", fps=25)
    sink.write(frame(0), Faces.empty(), frame(0).pixels)
    next(tmp_path.iterdir()).unlink()
    with pytest.raises(OutputError, match=r"out\.avi \(the file does not play\)"):
        sink.close()
    assert not list(tmp_path.iterdir())


def test_video_without_a_frame_leaves_nothing(tmp_path: Path) -> None:
    VideoSink(tmp_path / "out.mp4", fps=25).close()
    assert not list(tmp_path.iterdir())


def test_rows_are_whole(tmp_path: Path) -> None:
    sink = RowSink(RowFile(str(tmp_path / "rows.jsonl")))
    sink.write(frame(3), Faces.empty(), frame(3).pixels)
    assert not (tmp_path / "rows.jsonl").exists()
    sink.close()
    assert json.loads((tmp_path / "rows.jsonl").read_text()) == {"frame": 3, "timestamp_ns": 3, "faces": []}


def test_csv_has_a_line_a_face(tmp_path: Path) -> None:
    sink = RowSink(csv_file(tmp_path / "faces.csv"))
    faces = Faces.from_boxes(np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]), np.array([0.9, 0.8]))
    points = np.random.default_rng(0).uniform(0, 40, (2, 68, 3))
    known = faces.with_fields(landmarks=points, track_id=np.array([0, 4]), age=np.array([31.24, np.nan]))
    known = known.with_fields(age_std=np.array([5.96, np.nan]))
    sink.write(frame(3), known, frame(3).pixels)
    sink.write(frame(4), Faces.empty(), frame(4).pixels)
    sink.write(frame(5), faces.mask(np.array([0])), frame(5).pixels)  # without landmarks
    sink.close()
    with (tmp_path / "faces.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(r["frame"], r["track_id"]) for r in rows] == [("3", "0"), ("3", "4"), ("5", "")]
    assert float(rows[1]["z67"]) == pytest.approx(points[1, 67, 2], abs=0.01) and rows[0]["box_x2"] == "3.0"
    assert (rows[0]["age"], rows[1]["age"], rows[0]["female"]) == ("31.2", "", "")
    assert (rows[0]["age_std"], rows[1]["age_std"]) == ("6.0", "")


def test_background_writes_all_before_it_closes() -> None:
    recorder = Recorder()
    sink = BackgroundSink(recorder, capacity=32)
    for i in range(20):
        sink.write(frame(i), Faces.empty(), frame(i).pixels)
    assert recorder.seen == []
    recorder.go.set()
    sink.close()
    assert recorder.seen == list(range(20)) and recorder.closed == 1


def test_a_camera_does_not_wait_for_a_slow_output() -> None:
    recorder = Recorder()
    sink = BackgroundSink(recorder, live=True, capacity=2)
    for i in range(20):
        assert sink.write(frame(i), Faces.empty(), frame(i).pixels)
    recorder.go.set()
    sink.close()
    assert len(recorder.seen) + sink.skipped == 20 and len(recorder.seen) in (2, 3)


@pytest.mark.parametrize("results", [1, 6])  # the queue takes the end too, or is full
def test_a_stuck_output_does_not_keep_a_run_that_is_to_end(monkeypatch: pytest.MonkeyPatch, results: int) -> None:
    monkeypatch.setattr(sinks, "STOP_TIMEOUT_S", 0.05)
    recorder, stuck = Recorder(), threading.Event()
    monkeypatch.setattr(recorder, "write", lambda *_: stuck.wait(20))
    sink = BackgroundSink(recorder, has_reader=True, capacity=2)
    threading.Timer(0.3, sink.stop_waiting).start()
    for i in range(results):  # the fourth waits until the run is told to end
        sink.write(frame(i), Faces.empty(), frame(i).pixels)
    with pytest.raises(OutputError, match="an output is blocked because its reader"):
        sink.close()
    assert (sink.skipped > 0) is (results > 3)
    stuck.set()  # whoever reads goes on after all: the writer that was left behind then ends by itself
    sink._thread.join(5)
    assert not sink._thread.is_alive()


def test_a_slow_disk_does_not_cost_the_video_of_a_run_that_is_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "STOP_TIMEOUT_S", 0.05)
    recorder = Recorder()
    sink = BackgroundSink(recorder, capacity=4)
    for i in range(4):
        sink.write(frame(i), Faces.empty(), frame(i).pixels)
    sink.stop_waiting()
    threading.Timer(0.8, recorder.go.set).start()
    sink.close()
    assert recorder.closed == 1 and recorder.seen == [0] and sink.skipped == 3


def test_a_disk_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "STOP_TIMEOUT_S", 0.05)
    monkeypatch.setattr(sinks, "FILE_TIMEOUT_S", 0.3)
    recorder = Recorder()
    sink = BackgroundSink(recorder)
    sink.write(frame(0), Faces.empty(), frame(0).pixels)
    sink.stop_waiting()
    with pytest.raises(OutputError, match=r"a file is lost: its disk has not answered for 0\.3 s"):
        sink.close()
    recorder.go.set()


def test_a_failure_in_the_background_reaches_the_caller() -> None:
    recorder = Recorder()
    recorder.fail_at = 2
    recorder.go.set()
    sink = BackgroundSink(recorder, capacity=2)
    with pytest.raises(OutputError, match="disk full"):
        for i in range(1000):
            sink.write(frame(i), Faces.empty(), frame(i).pixels)
    sink.close()
    assert recorder.closed == 1 and recorder.seen == [0, 1]


def test_a_failure_at_the_last_frame_is_raised_by_close() -> None:
    recorder = Recorder()
    recorder.fail_at = 0
    sink = BackgroundSink(recorder)
    sink.write(frame(0), Faces.empty(), frame(0).pixels)
    recorder.go.set()
    with pytest.raises(OutputError, match="disk full"):
        sink.close()
    assert recorder.closed == 1


def test_a_sink_that_has_had_enough_ends_the_run() -> None:
    recorder = Recorder()
    recorder.stop_at = 0
    recorder.go.set()
    sink = BackgroundSink(recorder, capacity=1)
    assert not all(sink.write(frame(i), Faces.empty(), frame(i).pixels) for i in range(1000))
    sink.close()
    assert recorder.seen == [0]


def test_every_sink_is_closed_when_one_fails() -> None:
    class Broken(Recorder):
        def close(self) -> None:
            raise OutputError("no space")

    last = Recorder()
    with pytest.raises(OutputError, match="no space"):
        close_all([Broken(), last])
    assert last.closed == 1


def test_contours_use_every_point_once() -> None:
    points = [i for first, last, _ in CONTOURS for i in range(first, last + 1)]
    assert points == list(range(68))


def test_overlay_draws_on_a_copy() -> None:
    canvas = np.zeros((100, 100, 3), np.uint8)
    faces = Faces.from_boxes(np.array([[20.0, 20, 80, 80]]), np.ones(1))
    points = np.random.default_rng(0).uniform(30, 70, (1, 68, 3))
    drawn = draw_faces(canvas, faces.with_fields(landmarks=points, track_id=np.array([7])), hud=["30 fps"])
    assert not canvas.any()
    x, y = points[0, 5, :2].round().astype(int)
    assert drawn[y, x].any() and drawn[18:23, 50].any() and drawn[:24, :60].any()
    outside = faces.with_fields(landmarks=points + 5000.0)
    assert draw_faces(canvas, outside).shape == canvas.shape


def test_a_video_behind_a_link_replaces_what_the_link_points_to(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    blob = tmp_path / "far" / "blob"
    blob.write_bytes(b"old")
    link = tmp_path / "link.mp4"
    link.symlink_to(blob)
    sink = VideoSink(link, fps=10)
    sink.write(frame(0), Faces.empty(), frame(0).pixels)
    remove_unfinished()  # as at the end of a process that did not close it
    assert blob.read_bytes() == b"old" and list(blob.parent.iterdir()) == [blob]
    sink = VideoSink(link, fps=10)
    sink.write(frame(0), Faces.empty(), frame(0).pixels)
    sink.close()
    assert link.is_symlink() and len(blob.read_bytes()) > 100 and list(blob.parent.iterdir()) == [blob]


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_private_video_stays_private(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.touch(0o600)
    sink = VideoSink(path, fps=10)
    sink.write(frame(0), Faces.empty(), frame(0).pixels)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600} and len(list(tmp_path.iterdir())) == 2
    sink.close()
    assert count(path) == 1 and path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_video_does_not_replace_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "out.mkv"
    os.mkfifo(path)
    with pytest.raises(OutputError, match=r"out\.mkv is a pipe or a device, expected a file"):
        VideoSink(path, fps=10)
    assert path.is_fifo()


def test_rows_replace_a_file_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("old\n")
    for end, left in ((RowFile.discard, "old\n"), (RowFile.close, '{"n": 1}\n')):
        rows = RowFile(str(path))
        rows.write({"n": 1})
        assert path.read_text() == "old\n"
        end(rows)
        assert path.read_text() == left and list(tmp_path.iterdir()) == [path]
    RowFile(str(path)).close()  # nothing was found, so nothing is replaced
    assert path.read_text() == '{"n": 1}\n'


@pytest.mark.parametrize("live", [True, False])
def test_a_full_disk_leaves_whole_rows_of_a_live_source_or_none(tmp_path: Path, live: bool) -> None:
    """In a process of its own, as the limit of a file's size is for good."""
    code = f"""
import resource, signal, numpy as np
from pathlib import Path
from mien.runtime.errors import OutputError
from mien.runtime.output.rows import RowFile, RowSink, csv_file
from mien.runtime.values import Faces, Frame
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
pixels = np.zeros((48, 64, 3), np.uint8)
faces = Faces.from_boxes(np.array([[1.0, 2, 3, 4]]), np.array([0.9]))
for name, limit in (("rows.jsonl", 2000), ("faces.csv", 3000)):
    sink = RowSink(RowFile(name, live={live}) if name == "rows.jsonl" else csv_file(Path(name), live={live}))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
    try:
        for index in range(100):
            sink.write(Frame(pixels, index, index), faces, pixels)
        raise SystemExit("it was written")
    except OutputError as error:
        print(error)
    sink.close()
"""
    (tmp_path / "rows.jsonl").write_text("old")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.count("File too large") == 2
    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    if not live:
        assert files == {"rows.jsonl": "old"}
        return
    rows = [json.loads(line) for line in files["rows.jsonl"].splitlines()]
    assert [row["frame"] for row in rows] == list(range(len(rows))) and len(rows) > 5
    table = list(csv.DictReader(files["faces.csv"].splitlines()))
    assert [row["frame"] for row in table] == [str(n) for n in range(len(table))] and len(table) > 5
    assert sorted(files) == ["faces.csv", "rows.jsonl"]


def test_a_picture_of_another_size_is_not_stretched(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    sink = VideoSink(path, fps=10)
    for index, size in enumerate(((60, 80), (80, 40))):
        pixels = np.full((*size, 3), 255, np.uint8)
        sink.write(Frame(pixels, index * 100_000_000, index), Faces.empty(), pixels)
    sink.close()
    video = cv2.VideoCapture(str(path))
    first, second = (video.read()[1] for _ in range(2))
    assert first.shape == second.shape == (60, 80, 3) and first.min() > 200
    columns = np.flatnonzero(second[30, :, 0] > 128)
    assert columns.min() == 25 and columns.max() == 54 and (second[:, 40, 0] > 128).all()  # 30 × 60 in the middle
