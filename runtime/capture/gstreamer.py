"""Opens GStreamer pipelines through OpenCV, within a timeout."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError  # a separate class before Python 3.11

import cv2

from ..credentials import mask_secrets
from ..errors import InputError
from .opencv_video import opened_remote
from .sources import OpenedSource, SourceOptions


def open_gstreamer(source: str, options: SourceOptions) -> OpenedSource:
    """Open ``gst:PIPELINE``, adding an appsink if the pipeline has none.

    Raises:
        InputError: OpenCV lacks GStreamer, or the pipeline delivers no picture.
    """
    return open_gstreamer_pipeline(
        with_appsink(source.removeprefix("gst:")),
        options,
        name=mask_secrets(source),
        advice="test it with gst-launch-1.0, with fakesink in place of appsink",
    )


def with_appsink(pipeline: str) -> str:
    """Append an appsink to a GStreamer pipeline that has none."""
    if re.search(r"\bappsink\b", pipeline):
        return pipeline
    return f"{pipeline.rstrip(' !')} ! videoconvert ! video/x-raw, format=(string)BGR ! appsink drop=true max-buffers=1"


def open_gstreamer_pipeline(pipeline: str, options: SourceOptions, *, name: str, advice: str) -> OpenedSource:
    """Open a complete GStreamer pipeline.

    Args:
        pipeline: Pipeline that ends in an appsink.
        options: Timeout and clock.
        name: Display name.
        advice: Next step for the message if it does not run.

    Raises:
        InputError: OpenCV lacks GStreamer, or the pipeline delivers no picture.
    """
    if not has_gstreamer(cv2.getBuildInformation()):
        raise InputError(
            f"{name} needs an OpenCV with GStreamer, which this OpenCV {cv2.__version__} lacks (as do all packages on "
            "PyPI). Use the system's OpenCV, 4.8 or later (part of JetPack; elsewhere: apt install python3-opencv): "
            "pip uninstall opencv-python opencv-python-headless, in an environment created with "
            "python3 -m venv --system-site-packages"
        )

    def opened() -> OpenedSource:
        # No timeouts: OpenCV would stop the running pipeline to set them. Its default is 30 s per picture.
        video = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        if not video.isOpened():
            raise InputError(f"{name} delivered no video; {advice}")
        return opened_remote(video, name, options)

    return open_within(options.open_timeout_s, opened, name=name, advice=advice)


def open_within(timeout_s: float, opened: Callable[[], OpenedSource], *, name: str, advice: str) -> OpenedSource:
    """Open a source in a thread, and give up after a timeout; a source that opens late is closed.

    OpenCV would otherwise wait forever for a pipeline whose element is missing or hangs, as nvargus-daemon does.

    Args:
        timeout_s: Time to open the source.
        opened: Opens it.
        name: Display name.
        advice: Next step for the message after a timeout.

    Raises:
        InputError: The source did not open in time, or `opened` raised it.
    """
    future: Future[OpenedSource] = Future()

    def work() -> None:
        try:
            future.set_result(opened())
        except (InputError, cv2.error) as error:
            future.set_exception(error)

    threading.Thread(target=work, name=f"mien open {name}", daemon=True).start()
    try:
        return future.result(timeout_s)
    except FutureTimeoutError:
        future.add_done_callback(_close_late)
        raise InputError(f"{name} delivered no video within {timeout_s:g} s; {advice}") from None


def _close_late(future: Future[OpenedSource]) -> None:
    if future.exception() is None:
        future.result().source.close()


def has_gstreamer(build_information: str) -> bool:
    """Check the output of `cv2.getBuildInformation()` for GStreamer, which the list of backends always contains."""
    return re.search(r"^\s*GStreamer:\s+YES\b", build_information, re.MULTILINE) is not None
