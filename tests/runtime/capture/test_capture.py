from __future__ import annotations

import http.server
import io
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.runtime.capture import cameras
from mien.runtime.capture import opencv_video as video
from mien.runtime.capture.capture import Capture, open_capture
from mien.runtime.capture.frame_queue import FramePolicy
from mien.runtime.capture.raw_frames import RawSource
from mien.runtime.capture.sources import (
    OpenedSource,
    PacedSource,
    SourceInfo,
    SourceKind,
    SourceOptions,
    source_kind,
)
from mien.runtime.errors import InputError

INTERVAL_NS = 33_000_000


class FakeClock:
    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns


class FakeSource:
    """Gives what it was told to: pictures, None (lost) or exceptions; each costs one permit and 33 ms of fake time."""

    def __init__(self, script: list[object], clock: FakeClock | None = None, *, permits: int = 1_000_000) -> None:
        self.script = list(script)
        self.clock = clock or FakeClock()
        self.permits = threading.Semaphore(permits)
        self.closed = threading.Event()

    def read(self) -> tuple[np.ndarray, int | None] | None:
        self.permits.acquire()
        if self.closed.is_set() or not self.script:
            return None
        self.clock.now_ns += INTERVAL_NS
        item = self.script.pop(0)
        if isinstance(item, BaseException):
            raise item
        return None if item is None else (item, None)  # type: ignore[return-value]

    def close(self) -> None:
        self.closed.set()
        self.permits.release()


def picture(width: int = 4, height: int = 3, value: int = 0) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def live(source: FakeSource, **options: object) -> Capture:
    opened = OpenedSource(source, SourceInfo("fake", live=True))
    return Capture(lambda: opened, clock=source.clock, **options)  # type: ignore[arg-type]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.0005)


# --- The threaded reader ----------------------------------------------------------------------------------------------


def test_latest_gives_the_newest_frame_and_counts_what_it_dropped() -> None:
    source = FakeSource([picture(value=i) for i in range(10)], permits=7)
    with live(source) as capture:
        assert capture.policy is FramePolicy.LATEST
        until(lambda: capture.counts.read == 7)
        frame = next(capture)
        assert (frame.index, frame.pixels[0, 0, 0]) == (6, 6)
        assert (capture.counts.dropped, capture.counts.delivered) == (6, 1)
        source.permits.release(4)  # three frames, then the end
        until(lambda: capture.counts.read == 10)
        assert [f.index for f in capture] == [9]
        assert capture.ended
        assert capture.counts.dropped == 8


def test_a_source_slower_than_the_consumer_drops_nothing() -> None:
    source = FakeSource([picture() for _ in range(5)], permits=0)
    with live(source) as capture:
        for index in range(5):
            assert capture.wait_frame(0.0) is None
            source.permits.release()
            assert next(capture).index == index
        assert not capture.ended
        assert capture.counts.dropped == 0


def test_frame_age_stays_bounded_and_nothing_grows_over_20000_frames() -> None:
    clock = FakeClock()
    one = picture()
    source = FakeSource([], clock, permits=0)
    with live(source) as capture:
        for turn in range(1000):
            source.script = [one] * 20
            source.permits.release(20)
            until(lambda turn=turn: capture.counts.read == 20 * (turn + 1))
            frame = next(capture)
            assert clock() - frame.timestamp_ns < INTERVAL_NS
            counts = capture.counts
            assert counts.read - counts.delivered - counts.dropped == 0
        assert frame.index == 19_999


def test_every_loses_nothing_and_reads_no_further_than_its_queue() -> None:
    source = FakeSource([picture(value=i) for i in range(50)])
    with live(source, policy=FramePolicy.EVERY) as capture:
        until(lambda: capture.counts.read == 3)  # two wait, the third is in the reader's hand
        time.sleep(0.005)
        assert capture.counts.read == 3
        assert [f.pixels[0, 0, 0] for f in capture] == list(range(50))
        assert capture.counts.dropped == 0


def test_the_rate_is_measured_when_live() -> None:
    source = FakeSource([picture() for _ in range(20)], permits=5)
    opened = OpenedSource(source, SourceInfo("fake", live=True, fps=60.0))
    with Capture(lambda: opened, clock=source.clock) as capture:
        until(lambda: capture.counts.read == 5)
        assert capture.fps == 60.0
        source.permits.release(10)
        until(lambda: capture.counts.read == 15)
        assert capture.fps == pytest.approx(1e9 / INTERVAL_NS)


def test_timestamps_always_grow() -> None:
    clock = FakeClock()
    source = FakeSource([picture() for _ in range(3)], clock, permits=0)
    with live(source) as capture:
        stamps = []
        for _ in range(3):
            clock.now_ns = 5  # a clock that stands still
            source.permits.release()
            stamps.append(next(capture).timestamp_ns)
    assert stamps == sorted(set(stamps))


def test_an_exception_in_the_reader_reaches_the_consumer_after_the_frames_before_it() -> None:
    source = FakeSource([picture(), picture(), ZeroDivisionError("in the driver")])
    with live(source, policy=FramePolicy.EVERY) as capture:
        assert [next(capture).index, next(capture).index] == [0, 1]
        until(source.closed.is_set)
        assert not capture.ended  # the error is still to come
        with pytest.raises(ZeroDivisionError, match="in the driver"):
            next(capture)
        assert capture.ended
        assert list(capture) == []


def test_an_exception_that_nobody_saw_is_logged_on_close(caplog: pytest.LogCaptureFixture) -> None:
    source = FakeSource([InputError("bad frame")])
    capture = live(source)
    until(source.closed.is_set)
    capture.close()
    until(lambda: "bad frame" in caplog.text)


@pytest.mark.parametrize("policy", FramePolicy)
def test_close_joins_while_the_reader_waits(policy: FramePolicy) -> None:
    # EVERY: it waits for room in the queue. LATEST: for its source.
    source = FakeSource([picture() for _ in range(100)], permits=20)
    capture = live(source, policy=policy)
    until(lambda: capture.counts.read == (3 if policy is FramePolicy.EVERY else 20))
    began = time.monotonic()
    capture.close()
    assert time.monotonic() - began < 1
    assert not capture._thread.is_alive()
    assert source.closed.is_set()
    assert capture.ended
    assert list(capture) == []
    capture.close()


def test_close_from_another_thread_ends_the_consumer() -> None:
    capture = live(FakeSource([], permits=0))
    closer = threading.Timer(0.01, capture.close)
    closer.start()
    assert list(capture) == []
    closer.join()


def test_a_driver_that_never_returns_is_left_behind_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    hangs = threading.Event()

    class Stuck:
        def read(self) -> None:
            hangs.wait(5)

        def close(self) -> None:
            """Nothing wakes it."""

    opened = OpenedSource(Stuck(), SourceInfo("stuck", live=True))
    capture = Capture(lambda: opened, join_timeout_s=0.01)
    capture.close()
    assert "stuck: the driver does not return" in caplog.text
    hangs.set()
    capture._thread.join(5)


class Flaky:
    """Opens the given sources one after the other; None is a failed attempt."""

    def __init__(self, *sources: FakeSource | None) -> None:
        self.sources = list(sources)

    def __call__(self) -> OpenedSource:
        source = self.sources.pop(0)
        if source is None:
            raise InputError("not there")
        return OpenedSource(source, SourceInfo("flaky", live=True, reconnectable=True, fps=30.0))


def test_a_lost_source_is_opened_again_with_growing_back_off(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    first = FakeSource([picture(), picture(), None], clock)
    second = FakeSource([picture(8, 6)], clock, permits=1)
    pauses: list[float] = []
    opener = Flaky(first, None, None, None, None, None, second)
    with Capture(opener, policy=FramePolicy.EVERY, clock=clock, pause=pauses.append) as capture:
        frames = [next(capture) for _ in range(3)]
        assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
        assert [f.index for f in frames] == [0, 1, 2]
        assert capture.counts.reconnects == 1
        assert first.closed.is_set()
        assert capture.size == (8, 6)
        assert capture.fps == 30.0  # the gap is not measured
    assert "flaky was lost after 2 frames" in caplog.text
    assert "flaky is available again" in caplog.text
    assert "from 4x3 to 8x6 px" in caplog.text


def test_close_ends_the_attempts_to_reconnect() -> None:
    class Gone:
        tries = 0

        def __call__(self) -> OpenedSource:
            self.tries += 1
            if self.tries > 1:
                raise InputError("gone")
            return OpenedSource(FakeSource([]), SourceInfo("gone", live=True, reconnectable=True))

    opener = Gone()
    capture = Capture(opener)  # with its real pauses
    assert capture.wait_frame(0.005) is None
    assert not capture.ended
    began = time.monotonic()
    capture.close()
    assert time.monotonic() - began < 0.4
    assert opener.tries == 1


def test_without_reconnect_a_loss_is_an_error() -> None:
    with Capture(Flaky(FakeSource([picture(), None])), reconnect=False) as capture:
        until(lambda: capture.counts.read == 1)
        assert next(capture).index == 0
        with pytest.raises(InputError, match="flaky was lost after 1 frames"):
            next(capture)


def test_a_change_of_size_is_survived_and_reported() -> None:
    source = FakeSource([picture(4, 3), picture(8, 6)])
    with live(source, policy=FramePolicy.EVERY) as capture:
        assert [f.pixels.shape for f in capture] == [(3, 4, 3), (6, 8, 3)]
        assert capture.size == (8, 6)


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


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """30 frames of 64x48 px at 12.5 fps, each of one grey level of its own."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.5, (64, 48))
    assert writer.isOpened()
    for index in range(30):
        writer.write(picture(64, 48, index * 8))
    writer.release()
    return path


def test_a_video_gives_every_frame_at_its_own_time(clip: Path) -> None:
    with open_capture(str(clip)) as capture:
        assert (capture.policy, capture.live) == (FramePolicy.EVERY, False)
        assert (capture.size, capture.fps, capture.frame_count) == ((64, 48), 12.5, 30)
        frames = list(capture)
        assert capture.damage is None
    assert [f.timestamp_ns for f in frames] == [index * 80_000_000 for index in range(30)]
    assert [round(int(f.pixels[24, 32, 0]) / 8) for f in frames] == list(range(30))


def test_a_video_that_is_cut_says_so(clip: Path) -> None:
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


class FakeVideo:
    """Stands for `cv2.VideoCapture`: `script` holds a picture, None (undecodable) or False (lost) for each grab."""

    def __init__(self, script: list[object], properties: dict[int, float] | None = None) -> None:
        self.script = list(script)
        self.properties = properties or {}
        self.wished: list[tuple[int, float]] = []
        self.opened_with: tuple[object, ...] = ()
        self.released = False

    def __call__(self, *arguments: object) -> FakeVideo:
        self.opened_with = arguments
        return self

    def isOpened(self) -> bool:  # noqa: N802 — OpenCV's name
        return True

    def set(self, key: int, value: float) -> bool:
        self.wished.append((key, value))
        return True

    def get(self, key: int) -> float:
        return self.properties.get(key, 0.0)

    def grab(self) -> bool:
        return bool(self.script) and self.script[0] is not False

    def retrieve(self) -> tuple[bool, object]:
        item = self.script.pop(0)
        if isinstance(item, cv2.error):
            raise item
        return item is not None, item

    def release(self) -> None:
        self.released = True


def test_a_file_without_timestamps_counts_by_its_rate() -> None:
    fake = FakeVideo([picture()] * 3)
    source = video.VideoSource(fake, "fake", fps=50.0)  # type: ignore[arg-type]
    assert [source.read()[1] for _ in range(3)] == [0, 20_000_000, 40_000_000]  # type: ignore[index]


def test_a_broken_frame_is_skipped_and_an_endless_row_of_them_is_a_loss() -> None:
    fake = FakeVideo([picture(), None, None, picture(value=7), *[None] * 100])
    source = video.VideoSource(fake, "fake", clock=FakeClock())  # type: ignore[arg-type]
    assert source.read() is not None
    second = source.read()
    assert second is not None
    assert second[0][0, 0, 0] == 7
    assert source.read() is None


def test_an_error_of_opencv_is_a_loss_when_live_and_an_input_error_in_a_file() -> None:
    script: list[object] = [picture(), cv2.error("broken")]
    source = video.VideoSource(FakeVideo(script), "fake", clock=FakeClock())  # type: ignore[arg-type]
    assert source.read() is not None
    assert source.read() is None
    source = video.VideoSource(FakeVideo(script), "fake")  # type: ignore[arg-type]
    assert source.read() is not None
    with pytest.raises(InputError, match="cannot be read further"):
        source.read()


def test_a_video_is_not_released_while_another_thread_reads_it() -> None:
    fake = FakeVideo([picture(), picture()])
    source = video.VideoSource(fake, "fake")  # type: ignore[arg-type]
    with source._lock:
        source.close()
        assert not fake.released
    assert source.read() is None
    source.close()
    assert fake.released


def test_grey_and_transparent_pictures_become_bgr() -> None:
    assert video.as_bgr(np.zeros((3, 4), np.uint8), "x").shape == (3, 4, 3)
    assert video.as_bgr(np.zeros((3, 4, 1), np.uint8), "x").shape == (3, 4, 3)
    assert video.as_bgr(np.zeros((3, 4, 4), np.uint8), "x").shape == (3, 4, 3)
    with pytest.raises(InputError, match="8-bit"):
        video.as_bgr(np.zeros((3, 4), np.uint16), "x")


# --- Pictures ---------------------------------------------------------------------------------------------------------


def test_a_folder_gives_its_pictures_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"frame{number}.png"), picture(value=number))
    (tmp_path / "notes.txt").write_text("no picture")
    with open_capture(str(tmp_path), fps=10) as capture:
        frames = list(capture)
        assert (capture.policy, capture.size, capture.fps) == (FramePolicy.EVERY, (4, 3), 10)
    assert [f.pixels[0, 0, 0] for f in frames] == [1, 2, 10]
    assert [f.timestamp_ns for f in frames] == [0, 100_000_000, 200_000_000]


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


# --- Standard input ---------------------------------------------------------------------------------------------------


class Piped:
    """Stands for `sys.stdin`, connected to a pipe."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self.reader


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Piped]:
    pipe = Piped()
    monkeypatch.setattr("sys.stdin", pipe)
    yield pipe
    os.close(pipe.reader)
    os.close(pipe.writer)


def test_raw_frames_come_from_standard_input(piped: Piped) -> None:
    raw = np.arange(2 * 3 * 4 * 3, dtype=np.uint8)
    with open_capture("-", size=(4, 3), fps=25) as capture:
        os.write(piped.writer, raw[:50].tobytes())  # cuts where no frame ends
        os.write(piped.writer, raw[50:].tobytes())
        frames = [next(capture), next(capture)]
        assert (capture.name, capture.size, capture.policy) == ("standard input", (4, 3), FramePolicy.EVERY)
    assert np.array_equal(np.concatenate([f.pixels.reshape(-1) for f in frames]), raw)
    assert [f.timestamp_ns for f in frames] == [0, 40_000_000]


def test_a_silent_pipe_does_not_keep_close_waiting(piped: Piped) -> None:
    capture = open_capture("-", size=(4, 3))
    began = time.monotonic()
    capture.close()
    assert time.monotonic() - began < 1
    assert not capture._thread.is_alive()


def test_a_short_last_frame_is_told() -> None:
    source = RawSource(io.BytesIO(bytes(36 + 10)), size=(4, 3))
    taken = source.read()
    assert taken is not None
    assert taken[1] is None  # stamped on arrival
    with pytest.raises(InputError, match="within frame 1: 10 of the 36 bytes of 4x3 BGR"):
        source.read()


def test_raw_frames_end_at_a_frame() -> None:
    source = RawSource(io.BytesIO(bytes(36)), size=(4, 3))
    assert source.read() is not None
    assert source.read() is None


def test_standard_input_needs_a_size_and_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="--size 640x480"):
        open_capture("-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="from a pipe"):
        open_capture("-", size=(4, 3))


# --- Cameras and streams ----------------------------------------------------------------------------------------------


def test_a_camera_is_asked_for_mjpg_size_and_rate_and_what_it_gives_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    yuyv = sum(ord(c) << 8 * i for i, c in enumerate("YUYV"))
    fake = FakeVideo([picture(6, 4)], {cv2.CAP_PROP_FPS: 15.0, cv2.CAP_PROP_FOURCC: yuyv})
    monkeypatch.setattr(cv2, "VideoCapture", fake)
    opened = cameras.open_camera("2", SourceOptions(size=(1280, 720), fps=30))
    assert fake.opened_with[0] == 2
    assert [key for key, _ in fake.wished] == [
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
    ]
    assert (opened.info.size, opened.info.fps) == ((6, 4), 15.0)
    assert (opened.info.live, opened.info.reconnectable) == (True, True)
    assert "camera 2 delivers 6x4 YUYV 15 fps (requested 1280x720 MJPG 30 fps)" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_camera_that_opens_without_a_picture_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeVideo([False])
    monkeypatch.setattr(cv2, "VideoCapture", fake)
    with pytest.raises(InputError, match="camera /dev/video7 can be opened, but delivers no picture"):
        open_capture("/dev/video7")
    assert fake.released


@pytest.mark.parametrize(("waited_ms", "trusted"), [(20, True), (5000, False), (-1, False)])
def test_the_drivers_timestamp_is_taken_when_it_is_on_the_same_clock(waited_ms: int, trusted: bool) -> None:
    clock = FakeClock()
    clock.now_ns = 10_000_000_000
    fake = FakeVideo([picture()], {cv2.CAP_PROP_POS_MSEC: 10_000.0 - waited_ms})
    source = video.VideoSource(fake, "fake", clock=clock, kernel_stamps=True)  # type: ignore[arg-type]
    expected = clock.now_ns - (waited_ms * 1_000_000 if trusted else 0)
    assert source.read()[1] == expected  # type: ignore[index]


def test_a_missing_camera_is_named_with_the_way_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeVideo([])
    monkeypatch.setattr(fake, "isOpened", lambda: False)
    monkeypatch.setattr(cv2, "VideoCapture", fake)
    with pytest.raises(InputError, match="camera 99 cannot be opened"):
        open_capture("99")


def test_the_csi_pipeline_is_this_text() -> None:
    assert cameras.csi_pipeline(1, size=(1920, 1080), fps=29.97) == (
        "nvarguscamerasrc sensor-id=1 ! "
        "video/x-raw(memory:NVMM), width=(int)1920, height=(int)1080, framerate=(fraction)2997/100 ! "
        "nvvidconv ! video/x-raw, format=(string)BGRx ! "
        "videoconvert ! video/x-raw, format=(string)BGR ! "
        "appsink drop=true max-buffers=1 sync=false"
    )
    assert "width=(int)1280, height=(int)720, framerate=(fraction)30/1" in cameras.csi_pipeline(0)


def test_a_gstreamer_pipeline_is_given_an_appsink_when_it_has_none() -> None:
    assert video.with_appsink("videotestsrc ! ").startswith("videotestsrc ! videoconvert ! ")
    assert video.with_appsink("videotestsrc").endswith("appsink drop=true max-buffers=1")
    assert video.with_appsink("videotestsrc ! appsink") == "videotestsrc ! appsink"


def test_a_gstreamer_source_is_live_when_its_length_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "    GStreamer:                   YES (1.20.3)\n")
    for count, is_live in ((-1.0, True), (50.0, False)):
        fake = FakeVideo([picture()], {cv2.CAP_PROP_FRAME_COUNT: count})
        monkeypatch.setattr(cv2, "VideoCapture", fake)
        opened = cameras.open_csi("csi://0", SourceOptions())
        assert fake.opened_with == (cameras.csi_pipeline(0), cv2.CAP_GSTREAMER)
        assert (opened.info.live, opened.info.reconnectable) == (is_live, is_live)


@pytest.mark.parametrize("source", ["csi://0", "gst:videotestsrc"])
def test_without_gstreamer_the_way_out_is_named(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  Video I/O:\n    GStreamer:                   NO\n")
    with pytest.raises(
        InputError, match=f"{source} needs an OpenCV with GStreamer.* 4.8 or later .*--system-site-packages"
    ):
        open_capture(source)


def test_what_opens_too_late_is_an_error_and_closed() -> None:
    source = FakeSource([])
    open_now = threading.Event()

    def opened() -> OpenedSource:
        assert open_now.wait(5)
        return OpenedSource(source, SourceInfo("slow"))

    with pytest.raises(InputError, match=r"slow delivered no video within 0\.005 s; be patient"):
        video.open_within(0.005, opened, name="slow", advice="be patient")
    open_now.set()
    until(source.closed.is_set)


def test_gstreamer_is_read_from_the_build_information() -> None:
    assert video.has_gstreamer("  Video I/O:\n    FFMPEG: NO\n    GStreamer:      YES (1.22.0)\n")
    assert not video.has_gstreamer("  Video I/O:\n    FFMPEG: YES\n    GStreamer:      NO\n    v4l: YES\n")
    assert not video.has_gstreamer("")


def test_a_csi_source_needs_a_number() -> None:
    with pytest.raises(InputError, match="csi://0"):
        open_capture("csi://left")


class _MotionJpeg(http.server.BaseHTTPRequestHandler):
    stop: threading.Event
    jpeg: bytes

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(self.jpeg)
        try:
            while not self.stop.wait(0.002):
                self.wfile.write(part + self.jpeg + b"\r\n")
        except OSError:
            pass  # the client has gone

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


class MotionJpegServer:
    """Serves pictures of one size over HTTP on loopback, until it is killed."""

    def __init__(self, port: int, width: int) -> None:
        self._stop = threading.Event()
        jpeg = cv2.imencode(".jpg", picture(width, 48))[1].tobytes()
        handler = type("Handler", (_MotionJpeg,), {"stop": self._stop, "jpeg": jpeg})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))
        self._thread.start()

    def kill(self) -> None:
        self._stop.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_a_stream_whose_server_is_killed_and_started_again_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mien.runtime.capture.capture.FIRST_BACKOFF_S", 0.005)
    monkeypatch.setattr("mien.runtime.capture.capture.MAX_BACKOFF_S", 0.005)
    server = MotionJpegServer(0, 64)
    try:
        with open_capture(f"http://me:secret@127.0.0.1:{server.port}/video") as capture:
            assert (capture.live, capture.policy, capture.size) == (True, FramePolicy.LATEST, (64, 48))
            last = next(capture)
            server.kill()
            until(lambda: "was lost" in caplog.text)
            server = MotionJpegServer(server.port, 80)
            while last.pixels.shape[1] == 64:
                before, last = last, next(capture)
                assert last.timestamp_ns > before.timestamp_ns
            assert capture.counts.reconnects == 1
    finally:
        server.kill()
    assert "secret" not in caplog.text


def test_a_stream_that_is_not_there_is_an_error_without_its_password() -> None:
    with pytest.raises(InputError, match=r"http://\*\*\*@127\.0\.0\.1:1/x delivered no video"):
        open_capture("http://me:secret@127.0.0.1:1/x", open_timeout_s=0.5)


# --- What a source string means ---------------------------------------------------------------------------------------


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
    with pytest.raises(InputError, match="is not a video, nor a picture: it holds text"):
        open_capture(str(junk))
    with pytest.raises(InputError, match="empty"):
        open_capture("")
    for wrong in ({"size": (0, 5)}, {"fps": 0.0}, {"open_timeout_s": 0.0}, {"read_timeout_s": -1.0}):
        with pytest.raises(InputError, match="above 0"):
            open_capture("demo", **wrong)  # type: ignore[arg-type]


def test_sources_by_path_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    with open_capture(tmp_path) as capture:
        assert [frame.pixels.shape for frame in capture] == [(4, 4, 3)]
    fake = FakeVideo([])
    monkeypatch.setattr(fake, "isOpened", lambda: False)
    monkeypatch.setattr(cv2, "VideoCapture", fake)
    with pytest.raises(InputError, match="camera 99 cannot be opened"):
        open_capture(99)


@pytest.mark.skipif(platform.system() != "Linux" or any(Path("/dev").glob("video*")), reason="a camera is here")
def test_where_no_camera_is_the_demo_is_offered() -> None:
    with pytest.raises(
        InputError, match="camera 0 cannot be opened: no camera found; to try mien without one, run: mien webcam demo"
    ):
        open_capture("0")


def test_a_camera_number_beyond_all_is_told() -> None:
    with pytest.raises(InputError, match="camera 4294967296 cannot be opened"):
        open_capture("4294967296")


def test_the_frames_of_an_animation_come_at_their_own_times(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    shades = [image.new("RGB", (32, 24), (60 * n, 0, 0)) for n in range(3)]
    shades[0].save(tmp_path / "a", "PNG", save_all=True, append_images=shades[1:], duration=[40, 300, 40])
    with open_capture(tmp_path / "a") as capture:
        frames = list(capture)
    assert [frame.timestamp_ns for frame in frames] == [0, 40_000_000, 340_000_000]
    assert [int(frame.pixels[0, 0, 2]) for frame in frames] == [0, 60, 120]
