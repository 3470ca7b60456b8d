"""Opens video files and network streams with PyAV, or with OpenCV where it is not installed."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError
from ..file_kinds import check_video
from ..near_names import describe_missing
from .sources import OpenedSource, SourceOptions


def open_video(source: str, options: SourceOptions) -> OpenedSource:
    """Open a video file; its own size and rate take precedence over `options`.

    Raises:
        InputError: The file is missing, or is no video that can be read.
    """
    path = Path(source)
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for a name that is too long
        problem = describe_missing(path, "video")
        sources = (
            "a camera number, a file, a folder of pictures, a URL, csi://0, gst:PIPELINE, demo, or - (standard input)"
        )
        raise InputError(problem if "; " in problem else f"{problem}; a source is {sources}")
    check_video(path)
    try:
        from .av_video import open_file
    except ImportError:
        from .opencv_video import open_file
    return open_file(path)


def open_stream(url: str, options: SourceOptions) -> OpenedSource:
    """Open an RTSP, HTTP or other URL; it counts as live unless its length is known.

    Raises:
        InputError: There is no video, or not within the timeout.
    """
    try:
        from .av_video import open_stream
    except ImportError:
        from .opencv_video import open_stream
    return open_stream(url, options)
