"""Write short videos."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import cv2

from mien.runtime.capture.demo_camera import DemoCamera
from mien.runtime.values import Image

CODECS = {".avi": "MJPG", ".mp4": "mp4v"}


@cache
def _camera() -> DemoCamera:
    return DemoCamera()


def demo_frames(count: int, size: tuple[int, int] = (640, 480)) -> list[Image]:
    """The first frames of the demo camera, scaled to `size` (width, height) px."""
    return [cv2.resize(_camera().frame(i), size) for i in range(count)]


def write_clip(path: Path, frames: Iterable[Image], *, fps: float = 30) -> Path:
    """Write frames of one size as a video, and return its path."""
    writer = None
    for frame in frames:
        if writer is None:
            height, width = frame.shape[:2]
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODECS[path.suffix]), fps, (width, height))
            assert writer.isOpened()
        writer.write(frame)
    assert writer is not None
    writer.release()
    return path
