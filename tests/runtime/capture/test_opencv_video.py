"""What OpenCV reads: files and broken frames."""

from __future__ import annotations

import ctypes
import logging
import platform

import cv2
import numpy as np
import pytest

from mien.runtime.capture import opencv_video as video
from mien.runtime.capture.sources import (
    SourceOptions,
)
from mien.runtime.errors import InputError
from mien.tests.fakes.fake_capture import FakeClock, FakeVideo, picture


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's stderr can be diverted")
def test_what_ffmpeg_prints_is_logged_without_passwords(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    libc = ctypes.CDLL(None)

    class Printing(FakeVideo):
        def __init__(self, *_: object) -> None:
            super().__init__([picture()])

        def grab(self) -> bool:
            libc.fputs(b"[hls @ 0x1] cannot open 'http://u:secret@h/a.ts?t=secret'\n", ctypes.c_void_p(stderr.value))
            return super().grab()

    stderr = ctypes.c_void_p.in_dll(libc, "stderr")
    monkeypatch.setattr(video.cv2, "VideoCapture", Printing)
    with caplog.at_level(logging.INFO, logger="mien"):
        video.open_stream("http://u:secret@h/a.m3u8", SourceOptions())
    assert "[hls @ 0x1] cannot open 'http://***@h/a.ts?t=***'" in caplog.text
    assert "secret" not in caplog.text + "".join(capfd.readouterr())


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


@pytest.mark.parametrize(("waited_ms", "trusted"), [(20, True), (5000, False), (-1, False)])
def test_the_drivers_timestamp_is_taken_when_it_is_on_the_same_clock(waited_ms: int, trusted: bool) -> None:
    clock = FakeClock()
    clock.now_ns = 10_000_000_000
    fake = FakeVideo([picture()], {cv2.CAP_PROP_POS_MSEC: 10_000.0 - waited_ms})
    source = video.VideoSource(fake, "fake", clock=clock, kernel_stamps=True)  # type: ignore[arg-type]
    expected = clock.now_ns - (waited_ms * 1_000_000 if trusted else 0)
    assert source.read()[1] == expected  # type: ignore[index]
