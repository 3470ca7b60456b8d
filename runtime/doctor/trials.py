"""Tries out what needs the libraries: OpenCV's features, a model on each provider, a window and the cameras."""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib.util
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from ..backends.open_runner import open_model
from ..backends.ort.onnx_session import compiled_in
from ..capture.cameras import open_camera
from ..capture.gstreamer import has_gstreamer
from ..capture.sources import SourceOptions
from ..errors import InputError, MienError, next_step
from ..isolated import python_command
from ..models.runner import Provider
from ..models.shipped import shipped_model
from ..output.display import has_display
from ..output.window import has_windows
from .check_result import CheckResult, Status, ok_unless
from .packages import installed_version

OPENCV_FEATURES = ("FFMPEG", "GStreamer", "v4l/v4l2")
WINDOW_TEST = "import cv2, numpy; cv2.imshow('mien doctor', numpy.zeros((32, 32, 3), 'uint8')); cv2.waitKey(50)"


def try_opencv() -> Iterator[CheckResult]:
    """List what this build of OpenCV can open."""
    information = cv2.getBuildInformation()
    found = {name: re.search(rf"^ *{name}: +YES", information, re.MULTILINE) is not None for name in OPENCV_FEATURES}
    found["windows"] = has_windows()
    listed = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in found.items())
    yield CheckResult("OpenCV features", Status.OK, listed)
    if not has_gstreamer(information):
        yield CheckResult(
            "CSI cameras",
            Status.NOTE,
            "this OpenCV has no GStreamer",
            "on a Jetson, use the system's OpenCV: python3 -m venv --system-site-packages, without opencv-python",
        )


def try_providers() -> Iterator[CheckResult]:
    """Run a model on every provider."""
    compiled = ort.get_available_providers()
    yield CheckResult("providers", Status.OK, f"compiled in: {', '.join(compiled)}")
    for provider in Provider:
        if provider is not Provider.AUTO:
            yield try_provider(provider)


def try_provider(provider: Provider) -> CheckResult:
    """Run the shipped landmark model on a provider; a TensorRT engine is built in a temporary cache."""
    name = f"runs on {provider.value}"
    try:
        with _temporary_cache(), open_model(shipped_model("landmarks"), provider=provider) as runner:
            height, width = runner.spec.input_size
            runner(np.full((1, height, width, 3), 127, np.uint8))
            return CheckResult(name, Status.OK, f"yes, verified on {runner.provider}")
    except (MienError, RuntimeError, OSError) as error:
        found, fix = next_step(error)
        status = Status.PROBLEM if _is_installed(provider) else Status.NOTE
        return CheckResult(name, status, found, fix or f"mien --verbose info MODEL.onnx --provider {provider.value}")


def _is_installed(provider: Provider) -> bool:
    """Check whether the provider was installed on purpose, so that its failure is a problem."""
    if provider is Provider.TENSORRT:
        return importlib.util.find_spec("tensorrt") is not None
    if provider is Provider.ORT_TENSORRT:  # every onnxruntime-gpu includes it, without TensorRT
        return compiled_in(provider) and ctypes.util.find_library("nvinfer") is not None
    return compiled_in(provider)


@contextlib.contextmanager
def _temporary_cache() -> Iterator[None]:
    """Leave the user's cache unchanged."""
    before = os.environ.get("MIEN_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MIEN_CACHE"] = folder
        try:
            yield
        finally:
            del os.environ["MIEN_CACHE"]
            if before is not None:
                os.environ["MIEN_CACHE"] = before


def try_window() -> Iterator[CheckResult]:
    """Open a window, where there is a display."""
    if not has_display():
        yield CheckResult("window", Status.NOTE, "no display here", "use --no-show with --output or --json")
    elif not has_windows():
        yield CheckResult("window", Status.NOTE, "this OpenCV was built without window support", windows_command())
    else:  # in a subprocess: Qt aborts the process if it fails
        done = subprocess.run(python_command(WINDOW_TEST), capture_output=True, timeout=30, check=False)
        failed = done.returncode != 0
        found = "OpenCV cannot open one" if failed else "works"
        yield ok_unless(failed, "window", found, "check DISPLAY; until then use --no-show")


def try_cameras() -> Iterator[CheckResult]:
    """Take a picture with every camera."""
    devices = sorted(Path("/dev").glob("video*"))
    if not devices:
        yield CheckResult("camera", Status.NOTE, "none found", "use mien webcam demo, which needs none")
    for device in devices:
        if not os.access(device, os.R_OK | os.W_OK):
            yield CheckResult("camera", Status.PROBLEM, f"no permission for {device}", "sudo usermod -aG video $USER")
            continue
        try:
            opened = open_camera(str(device), SourceOptions())
        except InputError as error:  # a camera may have a second device for metadata
            yield CheckResult("camera", Status.NOTE, *next_step(error))
            continue
        opened.source.close()
        yield CheckResult("camera", Status.OK, f"{device}: {'x'.join(map(str, opened.info.size or ()))}")


TRIALS: tuple[Callable[[], Iterator[CheckResult]], ...] = (try_opencv, try_providers, try_window, try_cameras)


def windows_command() -> str:
    """Return the command that replaces an OpenCV without windows: two variants would overwrite each other."""
    for contrib in ("", "-contrib"):
        headless = f"opencv{contrib}-python-headless"
        if installed_version(headless) is not None:
            return f"pip uninstall -y {headless} && pip install opencv{contrib}-python"
    return "use --no-show, or an OpenCV built with GTK or Qt"
