"""Opens any kind of source for capturing."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from ..credentials import mask_secrets
from .cameras import open_camera, open_csi
from .capture import Capture
from .demo_camera import open_demo
from .frame_queue import FramePolicy
from .gstreamer import open_gstreamer
from .raw_frames import open_stdin
from .sources import (
    Clock,
    OpenedSource,
    SourceKind,
    SourceOptions,
    as_live,
    open_images,
    source_kind,
)
from .video import open_stream, open_video

log = logging.getLogger("mien")

OPENERS: dict[SourceKind, Callable[[str, SourceOptions], OpenedSource]] = {
    SourceKind.CAMERA: open_camera,
    SourceKind.CSI: open_csi,
    SourceKind.GSTREAMER: open_gstreamer,
    SourceKind.STREAM: open_stream,
    SourceKind.VIDEO: open_video,
    SourceKind.IMAGES: open_images,
    SourceKind.DEMO: open_demo,
    SourceKind.STDIN: open_stdin,
}


def open_capture(
    source: str | os.PathLike[str] | int,
    *,
    policy: FramePolicy | None = None,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    paced: bool = False,
    open_timeout_s: float = 5.0,
    read_timeout_s: float = 5.0,
    reconnect: bool = True,
    clock: Clock = time.monotonic_ns,
) -> Capture:
    """Open a source. Live sources are read from now on, so load models first.

    Args:
        source: Camera number or device, video, picture, folder, URL, ``csi://0``, ``gst:PIPELINE``, ``demo`` or ``-``.
            A path object is never taken for a number or keyword.
        policy: Handling of frames that are not consumed in time; default: `LATEST` for live sources, else `EVERY`.
        size: (width, height) in px to request from a camera, or of ``demo`` and ``-``.
        fps: Rate to request from a camera, or of ``demo``, ``-`` and folders of pictures.
        paced: Play a recording in real time, as if it were live.
        open_timeout_s: Time to open a network stream or GStreamer pipeline.
        read_timeout_s: Time to wait for a frame of a network stream.
        reconnect: Reopen a lost live source.
        clock: Clock of the timestamps of live frames.

    Raises:
        InputError: The source does not exist or cannot be read, or it needs an option that is missing.
    """
    if isinstance(source, os.PathLike):
        source = os.path.join(os.curdir, source)  # noqa: PTH118 - Path drops the dot, which tells ./demo from demo
    source = str(source)
    options = SourceOptions(size, fps, open_timeout_s, read_timeout_s, clock)
    kind = source_kind(source)
    _warn_unused(source, kind, options)

    def open_source() -> OpenedSource:
        opened = OPENERS[kind](source, options)
        return as_live(opened, clock=clock) if paced else opened

    return Capture(
        open_source,
        policy=policy,
        reconnect=reconnect,
        clock=clock,
        join_timeout_s=max(open_timeout_s, read_timeout_s) + 1.0,
    )


def _warn_unused(source: str, kind: SourceKind, options: SourceOptions) -> None:
    own_rate = (SourceKind.VIDEO, SourceKind.STREAM, SourceKind.GSTREAMER)
    if options.size is not None and kind in (*own_rate, SourceKind.IMAGES):
        log.warning("%s: a %s keeps its own size", mask_secrets(source), kind.value)
    if options.fps is not None and kind in own_rate:
        log.warning("%s: a %s keeps its own rate", mask_secrets(source), kind.value)
