"""Cameras on this machine: USB by number or device path, and the CSI cameras of a Jetson."""

from __future__ import annotations

import logging
import os
import platform
from fractions import Fraction
from pathlib import Path

import cv2

from mien.runtime.capture.opencv_video import VideoSource, frame_rate, open_gstreamer_pipeline
from mien.runtime.capture.sources import NOMINAL_FPS, OpenedSource, SourceInfo, SourceOptions
from mien.runtime.errors import InputError

logger = logging.getLogger("mien")

CSI_SIZE = (1280, 720)


def open_camera(device: str, options: SourceOptions) -> OpenedSource:
    """Open a camera by number (``0``) or device path; MJPG, the size (width, height) and rate are asked for.

    Raises:
        InputError: no such camera, or one that gives no picture.
    """
    name = f"camera {device}"
    on_linux = platform.system() == "Linux"
    # Without a backend named, an OpenCV with GStreamer wraps the camera in a pipeline that cannot be asked for MJPG.
    backend = cv2.CAP_V4L2 if on_linux else cv2.CAP_ANY
    video = cv2.VideoCapture(int(device), backend) if device.isdecimal() else cv2.VideoCapture(device, backend)
    if not video.isOpened():
        raise InputError(_camera_advice(name, device))
    # MJPG first: uncompressed, USB 2 carries 1280x720 at 10 fps only, and drivers then refuse size or rate.
    video.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    if options.size is not None:
        video.set(cv2.CAP_PROP_FRAME_WIDTH, options.size[0])
        video.set(cv2.CAP_PROP_FRAME_HEIGHT, options.size[1])
    if options.fps is not None:
        video.set(cv2.CAP_PROP_FPS, options.fps)
    source = VideoSource(video, name, clock=options.clock, kernel_stamps=on_linux)
    info = SourceInfo(name, live=True, reconnectable=True, size=source.size, fps=frame_rate(video))
    _log_negotiated(info, _fourcc(video), options)
    return OpenedSource(source, info)


def csi_pipeline(sensor: int, *, size: tuple[int, int] = CSI_SIZE, fps: float = NOMINAL_FPS) -> str:
    """GStreamer pipeline for a CSI camera of a Jetson: size (width, height) px, BGR out, stale frames dropped."""
    rate = Fraction(fps).limit_denominator(1001)
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! "
        f"video/x-raw(memory:NVMM), width=(int){size[0]}, height=(int){size[1]}, "
        f"framerate=(fraction){rate.numerator}/{rate.denominator} ! "
        "nvvidconv ! video/x-raw, format=(string)BGRx ! "
        "videoconvert ! video/x-raw, format=(string)BGR ! "
        "appsink drop=true max-buffers=1 sync=false"
    )


def open_csi(source: str, options: SourceOptions) -> OpenedSource:
    """Open ``csi://N``, camera N of a Jetson.

    Raises:
        InputError: not such a name, no GStreamer in this OpenCV, or no picture.
    """
    sensor = source.removeprefix("csi://") or "0"
    if not sensor.isdecimal():
        raise InputError(f"wanted csi:// and the number of a sensor, as csi://0, found {source}")
    return open_gstreamer_pipeline(
        csi_pipeline(int(sensor), size=options.size or CSI_SIZE, fps=options.fps or NOMINAL_FPS),
        options,
        name=source,
        advice="is the camera plugged in, and does nvgstcapture-1.0 show it? sudo systemctl restart nvargus-daemon",
    )


def _fourcc(video: cv2.VideoCapture) -> str:
    code = int(video.get(cv2.CAP_PROP_FOURCC))
    text = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
    return text if text.isprintable() and text.strip() else "unknown format"


def _log_negotiated(info: SourceInfo, fourcc: str, wish: SourceOptions) -> None:
    asked, given = _format(wish.size, "MJPG", wish.fps), _format(info.size, fourcc, info.fps)
    as_asked = wish.size in (None, info.size) and (wish.fps is None or abs(wish.fps - (info.fps or 0)) < 0.5)
    level = logging.INFO if as_asked else logging.WARNING
    logger.log(level, "%s gives %s (asked for %s)", info.name, given, asked)


def _format(size: tuple[int, int] | None, fourcc: str, fps: float | None) -> str:
    parts = ["" if size is None else f"{size[0]}x{size[1]}", fourcc, "" if fps is None else f"{fps:g} fps"]
    return " ".join(part for part in parts if part)


def _camera_advice(name: str, device: str) -> str:
    present = sorted(str(p) for p in Path("/dev").glob("video*"))
    path = f"/dev/video{device}" if device.isdecimal() else device
    if path in present and not os.access(path, os.R_OK | os.W_OK):
        return f"{name}: no permission for {path}; sudo usermod -aG video $USER, then log in again"
    if path in present:
        return f"{name} cannot be opened, though {path} is there; is another program using it?"
    if present:
        return f"{name} cannot be opened; cameras here: {', '.join(present)}"
    return f"{name} cannot be opened: no camera found here; --source demo works without one"
