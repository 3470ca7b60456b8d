"""Cameras by number, device and CSI sensor: what they are asked for, what they deliver, what is told without one."""

from __future__ import annotations

import logging
import platform
from pathlib import Path

import cv2
import pytest

from mien.runtime.capture import cameras
from mien.runtime.capture.open_capture import open_capture
from mien.runtime.capture.sources import (
    SourceOptions,
)
from mien.runtime.errors import InputError
from mien.tests.fakes.fake_capture import FakeVideo, picture


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


def test_a_missing_camera_is_named_with_the_way_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeVideo([])
    monkeypatch.setattr(fake, "isOpened", lambda: False)
    monkeypatch.setattr(cv2, "VideoCapture", fake)
    with pytest.raises(InputError, match="camera 99 cannot be opened"):
        open_capture("99")


def test_a_camera_by_its_id_may_lack_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, path = FakeVideo([]), "/dev/v4l/by-id/usb-cam"
    monkeypatch.setattr(fake, "isOpened", lambda: False)
    monkeypatch.setattr(cv2, "VideoCapture", fake)
    monkeypatch.setattr(cameras.os.path, "exists", lambda name: name == path)
    monkeypatch.setattr(cameras.os, "access", lambda *_: False)
    with pytest.raises(InputError, match=f"no permission to use {path}; run: sudo usermod"):
        cameras.open_camera(path, SourceOptions())


@pytest.mark.skipif(platform.system() != "Linux" or any(Path("/dev").glob("video*")), reason="a camera is here")
def test_where_no_camera_is_the_demo_is_offered() -> None:
    with pytest.raises(
        InputError, match="camera 0 cannot be opened: no camera found; to try mien without one, run: mien webcam demo"
    ):
        open_capture("0")


def test_a_camera_number_beyond_all_is_told() -> None:
    with pytest.raises(InputError, match="camera 4294967296 cannot be opened"):
        open_capture("4294967296")


def test_the_csi_pipeline_is_this_text() -> None:
    assert cameras.csi_pipeline(1, size=(1920, 1080), fps=29.97) == (
        "nvarguscamerasrc sensor-id=1 ! "
        "video/x-raw(memory:NVMM), width=(int)1920, height=(int)1080, framerate=(fraction)2997/100 ! "
        "nvvidconv ! video/x-raw, format=(string)BGRx ! "
        "videoconvert ! video/x-raw, format=(string)BGR ! "
        "appsink drop=true max-buffers=1 sync=false"
    )
    assert "width=(int)1280, height=(int)720, framerate=(fraction)30/1" in cameras.csi_pipeline(0)


def test_a_csi_source_needs_a_number() -> None:
    with pytest.raises(InputError, match="csi://0"):
        open_capture("csi://left")


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
