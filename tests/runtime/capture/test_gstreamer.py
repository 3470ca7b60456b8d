"""GStreamer pipelines: what is appended to them, whether OpenCV has them, and sources that open late."""

from __future__ import annotations

import threading

import pytest

from mien.runtime.capture import gstreamer
from mien.runtime.capture.sources import (
    OpenedSource,
    SourceInfo,
)
from mien.runtime.errors import InputError
from mien.tests.fakes.fake_capture import FakeSource
from mien.tests.processes import wait_for


def test_a_gstreamer_pipeline_is_given_an_appsink_when_it_has_none() -> None:
    assert gstreamer.with_appsink("videotestsrc ! ").startswith("videotestsrc ! videoconvert ! ")
    assert gstreamer.with_appsink("videotestsrc").endswith("appsink drop=true max-buffers=1")
    assert gstreamer.with_appsink("videotestsrc ! appsink") == "videotestsrc ! appsink"


def test_gstreamer_is_read_from_the_build_information() -> None:
    assert gstreamer.has_gstreamer("  Video I/O:\n    FFMPEG: NO\n    GStreamer:      YES (1.22.0)\n")
    assert not gstreamer.has_gstreamer("  Video I/O:\n    FFMPEG: YES\n    GStreamer:      NO\n    v4l: YES\n")
    assert not gstreamer.has_gstreamer("")


def test_what_opens_too_late_is_an_error_and_closed() -> None:
    source = FakeSource([])
    open_now = threading.Event()

    def opened() -> OpenedSource:
        assert open_now.wait(5)
        return OpenedSource(source, SourceInfo("slow"))

    with pytest.raises(InputError, match=r"slow delivered no video within 0\.005 s; be patient"):
        gstreamer.open_within(0.005, opened, name="slow", advice="be patient")
    open_now.set()
    wait_for(source.closed.is_set)
