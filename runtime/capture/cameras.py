"""Opens local cameras: USB by number or device path, and the CSI cameras of a Jetson."""

from __future__ import annotations

import logging
import os
import platform
from fractions import Fraction
from pathlib import Path

import cv2

from ..errors import InputError
from .gstreamer import open_gstreamer_pipeline
from .opencv_video import VideoSource, frame_rate
from .sources import NOMINAL_FPS, OpenedSource, SourceInfo, SourceOptions

log = logging.getLogger("mien")

CSI_SIZE = (1280, 720)
MAX_NUMBER = 2**31 - 1
"""Largest number that OpenCV takes."""


def open_camera(device: str, options: SourceOptions) -> OpenedSource:
    """Open a camera, and request MJPG and the size and rate of the options.

    Args:
        device: Number, such as ``0``, or device path.
        options: Requested size and rate; the camera may choose others.

    Raises:
        InputError: There is no such camera, or it delivers no picture.
    """
    name = f"camera {device}"
    if device.isdecimal() and int(device) > MAX_NUMBER:
        raise InputError(_camera_advice(name, device))
    on_linux = platform.system() == "Linux"
    # By default, an OpenCV with GStreamer wraps the camera in a pipeline that does not support requesting MJPG.
    backend = cv2.CAP_V4L2 if on_linux else cv2.CAP_ANY
    video = cv2.VideoCapture(int(device), backend) if device.isdecimal() else cv2.VideoCapture(device, backend)
    if not video.isOpened():
        raise InputError(_camera_advice(name, device))
    # MJPG first: USB 2 carries uncompressed 1280x720 at only 10 fps, and drivers then refuse the size or rate.
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
    """Build the GStreamer pipeline of a Jetson's CSI camera, which outputs BGR and drops stale frames.

    Args:
        sensor: Number of the camera.
        size: (width, height) in px.
        fps: Frame rate.
    """
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
    """Open ``csi://N``, CSI camera N of a Jetson.

    Raises:
        InputError: The name is invalid, OpenCV lacks GStreamer, or the camera delivers no picture.
    """
    sensor = source.removeprefix("csi://") or "0"
    if not sensor.isdecimal():
        raise InputError(f"expected csi:// and the number of a sensor, such as csi://0; found {source}")
    return open_gstreamer_pipeline(
        csi_pipeline(int(sensor), size=options.size or CSI_SIZE, fps=options.fps or NOMINAL_FPS),
        options,
        name=source,
        advice="is it connected, and does nvgstcapture-1.0 show it? If so: sudo systemctl restart nvargus-daemon",
    )


def _fourcc(video: cv2.VideoCapture) -> str:
    code = int(video.get(cv2.CAP_PROP_FOURCC))
    text = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
    return text if text.isprintable() and text.strip() else "unknown format"


def _log_negotiated(info: SourceInfo, fourcc: str, options: SourceOptions) -> None:
    requested, delivered = _format(options.size, "MJPG", options.fps), _format(info.size, fourcc, info.fps)
    as_requested = options.size in (None, info.size) and (
        options.fps is None or abs(options.fps - (info.fps or 0)) < 0.5
    )
    level = logging.INFO if as_requested else logging.WARNING
    log.log(level, "%s delivers %s (requested %s)", info.name, delivered, requested)


def _format(size: tuple[int, int] | None, fourcc: str, fps: float | None) -> str:
    parts = ["" if size is None else f"{size[0]}x{size[1]}", fourcc, "" if fps is None else f"{fps:g} fps"]
    return " ".join(part for part in parts if part)


def _camera_advice(name: str, device: str) -> str:
    present = sorted(str(p) for p in Path("/dev").glob("video*"))
    path = f"/dev/video{device}" if device.isdecimal() else device
    if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK):  # noqa: PTH110 - of any length
        return f"{name}: no permission to use {path}; run: sudo usermod -aG video $USER, then log in again"
    if os.path.exists(path):  # noqa: PTH110
        return f"{name} cannot be opened although {path} exists; is another program using it?"
    if present:
        return f"{name} cannot be opened; cameras found: {', '.join(present)}"
    return f"{name} cannot be opened: no camera found; to try mien without one, run: mien webcam demo"
