"""What a source string means, and what comes of it: videos, pictures and folders, played at their pace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.runtime.capture.frame_queue import FramePolicy
from mien.runtime.capture.open_capture import open_capture
from mien.runtime.capture.sources import (
    PacedSource,
    SourceKind,
    source_kind,
)
from mien.runtime.errors import InputError
from mien.runtime.pictures.decode import PictureFrame
from mien.tests.clips import write_clip
from mien.tests.fakes.fake_capture import FakeClock, FakeVideo, picture


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("0", SourceKind.CAMERA),
        ("/dev/video0", SourceKind.CAMERA),
        ("/dev/v4l/by-id/usb-cam", SourceKind.CAMERA),
        ("clip.mp4", SourceKind.VIDEO),
        ("./0", SourceKind.VIDEO),
        (r"C:\clip.mp4", SourceKind.VIDEO),
        ("face.JPG", SourceKind.IMAGES),
        (".", SourceKind.IMAGES),
        ("rtsp://cam/stream", SourceKind.STREAM),
        ("http://cam/video.mjpg", SourceKind.STREAM),
        ("csi://0", SourceKind.CSI),
        ("gst:videotestsrc ! appsink", SourceKind.GSTREAMER),
        ("demo", SourceKind.DEMO),
        ("-", SourceKind.STDIN),
    ],
)
def test_source_kinds(source: str, kind: SourceKind) -> None:
    assert source_kind(source) is kind


def test_misuse_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no video missing\.mp4; a source is a camera number"):
        open_capture("missing.mp4")
    with pytest.raises(InputError, match=r"no file missing\.png"):
        open_capture("missing.png")
    with pytest.raises(InputError, match="holds no pictures"):
        open_capture(str(tmp_path))
    junk = tmp_path / "junk.mp4"
    junk.write_text("not a video")
    with pytest.raises(InputError, match="is neither a picture nor a video: it holds text"):
        open_capture(str(junk))
    with pytest.raises(InputError, match="empty"):
        open_capture("")
    small = ({"size": (0, 5)}, {"fps": 0.0}, {"open_timeout_s": 0.0}, {"read_timeout_s": -1.0})
    for wrong in (*small, {"size": (99_999, 9)}, {"fps": math.inf}, {"fps": math.nan}):
        with pytest.raises(InputError, match="above 0 and up to 16384"):
            open_capture("demo", **wrong)  # type: ignore[arg-type]


def test_an_animation_that_breaks_off_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def frames(path: Path) -> Iterator[PictureFrame]:
        yield PictureFrame(picture())
        raise InputError(f"{path} is damaged: 1 of its 2 frames can be decoded")

    cv2.imwrite(str(tmp_path / "a.png"), picture())
    monkeypatch.setattr("mien.runtime.capture.sources.read_frames", frames)
    with open_capture(tmp_path / "a.png") as capture:
        assert len(list(capture)) == 1
        assert str(capture.damage).endswith("a.png is damaged: 1 of its 2 frames can be decoded")


def test_sources_by_path_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    with open_capture(tmp_path) as capture:
        assert [frame.pixels.shape for frame in capture] == [(4, 4, 3)]
    fake = FakeVideo([])
    monkeypatch.setattr(fake, "isOpened", lambda: False)
    monkeypatch.setattr(cv2, "VideoCapture", fake)
    with pytest.raises(InputError, match="camera 99 cannot be opened"):
        open_capture(99)


def test_a_folder_gives_its_pictures_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"frame{number}.png"), picture(value=number))
    (tmp_path / "notes.txt").write_text("no picture")
    with open_capture(str(tmp_path), fps=10) as capture:
        frames = list(capture)
        assert (capture.policy, capture.size, capture.fps) == (FramePolicy.EVERY, (4, 3), 10)
    assert [f.pixels[0, 0, 0] for f in frames] == [1, 2, 10]
    assert [f.timestamp_ns for f in frames] == [0, 100_000_000, 200_000_000]


def test_a_path_object_is_no_keyword(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clip.parent)
    for name in ("demo", "0", "-"):
        clip.rename(name)
        clip = Path(name)
        with open_capture(clip) as capture:
            assert (capture.live, capture.name) == (False, name)


def test_a_picture_is_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "one.PNG"
    cv2.imwrite(str(path), picture(6, 5, 9))
    with open_capture(str(path)) as capture:
        assert (capture.size, capture.fps, capture.frame_count) == ((6, 5), None, 1)
        assert [f.pixels.shape for f in capture] == [(5, 6, 3)]


def test_a_broken_picture_in_a_folder_is_named_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    for name in ("b.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), picture())
    with open_capture(str(tmp_path)) as capture:
        assert len(list(capture)) == 2
        assert capture.damage == "1 of the 3 pictures cannot be read"
    assert "a.png" in caplog.text
    for name in ("b.png", "c.png"):
        (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(InputError, match=r"c\.png"):
        open_capture(str(tmp_path))


def test_the_frames_of_an_animation_come_at_their_own_times(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    shades = [image.new("RGB", (32, 24), (60 * n, 0, 0)) for n in range(3)]
    shades[0].save(tmp_path / "a", "PNG", save_all=True, append_images=shades[1:], duration=[40, 300, 40])
    with open_capture(tmp_path / "a") as capture:
        frames = list(capture)
    assert [frame.timestamp_ns for frame in frames] == [0, 40_000_000, 340_000_000]
    assert [int(frame.pixels[0, 0, 2]) for frame in frames] == [0, 60, 120]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """30 frames of 64x48 px at 12.5 fps, each of one grey level of its own."""
    return write_clip(tmp_path / "clip.avi", [picture(64, 48, index * 8) for index in range(30)], fps=12.5)


def test_a_video_gives_every_frame_at_its_own_time(clip: Path) -> None:
    with open_capture(str(clip)) as capture:
        assert (capture.policy, capture.live) == (FramePolicy.EVERY, False)
        assert (capture.size, capture.fps, capture.frame_count) == ((64, 48), 12.5, 30)
        frames = list(capture)
        assert capture.damage is None
    assert [f.timestamp_ns for f in frames] == [index * 80_000_000 for index in range(30)]
    assert [round(int(f.pixels[24, 32, 0]) / 8) for f in frames] == list(range(30))


def test_a_video_that_is_cut_says_so(clip: Path) -> None:
    pytest.importorskip("av")
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) // 2])
    with open_capture(str(clip)) as capture:
        frames = list(capture)
        assert 1 <= len(frames) < 28
        assert capture.damage is not None
    assert "its end is missing" in capture.damage


def test_a_video_that_the_consumer_leaves_is_not_damaged(clip: Path) -> None:
    with open_capture(str(clip)) as capture:
        next(capture)
    assert capture.damage is None


def test_a_paced_video_is_live(clip: Path) -> None:
    with open_capture(str(clip), paced=True) as capture:
        assert (capture.policy, capture.live) == (FramePolicy.LATEST, True)
        assert 0 <= capture.clock() - next(capture).timestamp_ns < 1_000_000_000


def test_a_file_keeps_its_size_and_rate_and_says_so(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_capture(str(clip), size=(10, 10), fps=5) as capture:
        assert (capture.size, capture.fps) == ((64, 48), 12.5)
    assert "keeps its own size" in caplog.text
    assert "keeps its own rate" in caplog.text


@pytest.mark.parametrize(("longest_pause_s", "expected"), [(math.inf, [0, 9e9, 9.1e9]), (1.0, [0, 0, 0.1e9])])
def test_a_live_source_does_not_wait_for_a_part_that_has_expired(longest_pause_s: float, expected: list[float]) -> None:
    clock = FakeClock()
    start = clock.now_ns

    class Recording:
        media = iter([(picture(), 0), (picture(), 9_000_000_000), (picture(), 9_100_000_000)])

        def read(self) -> tuple[np.ndarray, int]:
            return next(self.media)

        def close(self) -> None:
            """Nothing held."""

    def pause(seconds: float) -> None:
        clock.now_ns += round(seconds * 1e9)

    source = PacedSource(Recording(), clock=clock, pause=pause, longest_pause_s=longest_pause_s)
    stamps = [source.read()[1] for _ in expected]  # type: ignore[index]
    assert [s - start for s in stamps if s is not None] == pytest.approx(expected)


def test_paced_playback_waits_for_each_frame_and_stalls_rather_than_hurries() -> None:
    clock = FakeClock()
    media = iter([(picture(), 0), (picture(), 100), (picture(), 200), (picture(), 300), None])

    class Recording:
        def read(self) -> tuple[np.ndarray, int] | None:
            return next(media)

        def close(self) -> None:
            """Nothing held."""

    def pause(seconds: float) -> None:
        clock.now_ns += round(seconds * 1e9)

    source = PacedSource(Recording(), clock=clock, pause=pause)
    start = clock()
    stamps = [source.read()[1], source.read()[1]]  # type: ignore[index]
    clock.now_ns += 1000  # the reader was held up
    stamps += [source.read()[1], source.read()[1]]  # type: ignore[index]
    assert [s - start for s in stamps if s is not None] == [0, 100, 1100, 1200]
    assert source.read() is None
