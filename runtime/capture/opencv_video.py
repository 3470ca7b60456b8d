"""Reads cameras and pipelines with OpenCV, and files and network streams where PyAV is not installed."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ..credentials import mask_secrets, mask_text
from ..errors import InputError, one_line
from ..pictures.native_messages import native_messages
from ..values import Image, size_of
from .frame_shape import square_width
from .frame_times import FrameTimes
from .sources import MAX_FPS, NOMINAL_FPS, Clock, OpenedSource, RawFrame, SourceInfo, SourceOptions

log = logging.getLogger("mien")

_ONE_DECODER = [cv2.CAP_PROP_N_THREADS, 1] if hasattr(cv2, "CAP_PROP_N_THREADS") else []  # not before OpenCV 4.7
"""Multithreaded decoding delays a stream by one frame per thread, and takes cores from inference."""

MAX_BROKEN_FRAMES = 30
"""Consecutive undecodable frames after which a source counts as lost; USB cameras have one now and then."""
MAX_STAMP_AGE_NS = 1_000_000_000


class VideoSource:
    """Source that reads an open `cv2.VideoCapture`.

    Args:
        video: Opened video.
        name: Display name.
        clock: Timestamps frames on arrival, before they are decoded; None: use the timestamps of the file.
        fps: Nominal rate, for files without usable timestamps.
        frame_count: Number of frames according to the header of a file.
        kernel_stamps: The driver's timestamps are on the same clock (V4L2).

    Attributes:
        size: (width, height) in px of the first frame.

    Raises:
        InputError: No frame can be read.
    """

    def __init__(
        self,
        video: cv2.VideoCapture,
        name: str,
        *,
        clock: Clock | None = None,
        fps: float | None = None,
        frame_count: int | None = None,
        kernel_stamps: bool = False,
    ) -> None:
        self._video = video
        self._name = name
        self._clock = clock
        self._times = FrameTimes(round(1e9 / (fps or NOMINAL_FPS)))
        self._kernel_stamps = kernel_stamps
        self._aspect = _pixel_aspect(video)
        self._frame_count = frame_count
        self._grabbed = 0
        self._lock = threading.Lock()
        self._closed = False
        # Some sources open but deliver nothing: a camera in use, a metadata device, a stream without video.
        first = self._read()
        if first is None:
            video.release()
            raise InputError(f"{name} can be opened, but delivers no picture; is another program using it?")
        self._first: RawFrame | None = first
        self.size = size_of(first[0])

    def read(self) -> RawFrame | None:
        """See `Source`."""
        with self._lock:
            if self._closed:
                return None
            first, self._first = self._first, None
            return self._read() if first is None else first

    def close(self) -> None:
        """See `Source`. While another thread reads, OpenCV must not release the video; that thread's own close does."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._video.release()
            finally:
                self._lock.release()

    def _read(self) -> RawFrame | None:
        for _ in range(MAX_BROKEN_FRAMES):
            try:
                with ffmpeg_logged():
                    grabbed = self._video.grab()
                if not grabbed:
                    self._warn_if_short()
                    return None
                self._grabbed += 1
                stamp = self._stamp()
                done, pixels = self._video.retrieve()
            except cv2.error as error:
                if self._clock is None:
                    raise InputError(f"{self._name} cannot be read further ({error.err})") from error
                log.warning("%s: %s", self._name, error.err)
                return None
            if done:
                return self._square(as_bgr(pixels, self._name)), stamp
        return None

    def _square(self, pixels: Image) -> Image:
        width, height = size_of(pixels)
        square = square_width(width, self._aspect)
        return pixels if square == width else np.asarray(cv2.resize(pixels, (square, height)), dtype=np.uint8)

    def _warn_if_short(self) -> None:
        if self._frame_count is not None and self._grabbed < self._frame_count:
            log.warning(
                "%s ends after %d of the %d frames in its header; "
                "only PyAV can tell whether it is whole (pip install av)",
                self._name,
                self._grabbed,
                self._frame_count,
            )

    def _stamp(self) -> int:
        if self._clock is None:
            return self._times.next(round(self._video.get(cv2.CAP_PROP_POS_MSEC) * 1e6))
        now = self._clock()
        if self._kernel_stamps:
            # Time of exposure rather than arrival, so the age of a frame includes its time in the driver.
            taken = round(self._video.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            return taken if 0 <= now - taken <= MAX_STAMP_AGE_NS else now
        return now


def as_bgr(pixels: cv2.typing.MatLike, name: str) -> Image:
    """Convert grey (h, w), (h, w, 1) or BGRA (h, w, 4) uint8 to BGR (h, w, 3); BGR is returned as is.

    Args:
        pixels: Picture.
        name: Name of the source, for the message.

    Raises:
        InputError: Any other shape or type.
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype != np.uint8 or channels not in (1, 3, 4):
        raise InputError(f"{name}: expected 8-bit grey, BGR or BGRA pictures, found {pixels.dtype} {pixels.shape}")
    if channels == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    elif channels == 4:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR)
    return np.asarray(pixels, dtype=np.uint8)


@contextmanager
def ffmpeg_logged() -> Iterator[None]:
    """Log what FFmpeg prints inside the block, masked: it quotes URLs with their passwords."""
    with native_messages() as messages:
        yield
    for message in messages:
        log.info("%s", one_line(mask_text(message)))


@contextmanager
def plain_name(path: Path) -> Iterator[str]:
    """Yield a name by which OpenCV can open a file: it takes one with a colon for a URL, and needs UTF-8."""
    name = os.path.abspath(path)  # noqa: PTH100 - not through links
    try:
        os.fsencode(name).decode("utf-8")
    except UnicodeDecodeError:
        with tempfile.TemporaryDirectory(prefix="mien-") as folder:
            link = Path(folder) / f"video{path.suffix if path.suffix.isascii() else ''}"
            link.symlink_to(name)
            yield str(link)
    else:
        yield os.fsencode(name).decode("utf-8")


def open_file(path: Path) -> OpenedSource:
    """Open a video file.

    OpenCV reports neither mirrored pictures nor damage: a file that ends before the number of frames in its header
    gives a warning, because that number may be wrong.

    Raises:
        InputError: OpenCV cannot read the file.
    """
    with plain_name(path) as name:
        video = cv2.VideoCapture(name, _ffmpeg(), _ONE_DECODER)
    if not video.isOpened():
        raise InputError(
            f"{path} is not a video that OpenCV can read, or its end is missing; try: ffmpeg -i IN -c:v libx264 OUT.mp4"
        )
    fps, frame_count = frame_rate(video), _frame_count(video)
    frames = VideoSource(video, str(path), fps=fps, frame_count=frame_count)
    return OpenedSource(frames, SourceInfo(str(path), size=frames.size, fps=fps, frame_count=frame_count))


def open_stream(url: str, options: SourceOptions) -> OpenedSource:
    """Open an RTSP, HTTP or other URL; it counts as live unless its length is known.

    Raises:
        InputError: There is no video, or not within the timeout.
    """
    name = mask_secrets(url)
    with ffmpeg_logged():
        video = cv2.VideoCapture(url, _ffmpeg(), [*_ONE_DECODER, *_timeouts(options)])
    if not video.isOpened():
        raise InputError(
            f"{name} delivered no video (waited up to {options.open_timeout_s:g} s); does ffplay show it? "
            "Check address, network and password"
        )
    return opened_remote(video, name, options)


def frame_rate(video: cv2.VideoCapture) -> float | None:
    """Read the nominal frame rate; None if unknown, or if the time base (90000) is reported instead."""
    fps = video.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= MAX_FPS else None


def _pixel_aspect(video: cv2.VideoCapture) -> Fraction | None:
    """Read the sample aspect ratio; None if unknown."""
    width, height = round(video.get(cv2.CAP_PROP_SAR_NUM)), round(video.get(cv2.CAP_PROP_SAR_DEN))
    return Fraction(width, height) if width > 0 and height > 0 else None


def opened_remote(video: cv2.VideoCapture, name: str, options: SourceOptions) -> OpenedSource:
    """Describe an opened stream or pipeline; one without a length is live."""
    fps, frame_count = frame_rate(video), _frame_count(video)
    live = frame_count is None
    source = VideoSource(video, name, clock=options.clock if live else None, fps=fps)
    info = SourceInfo(name, live=live, reconnectable=live, size=source.size, fps=fps, frame_count=frame_count)
    return OpenedSource(source, info)


def _ffmpeg() -> int:
    return cv2.CAP_FFMPEG if cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG) else cv2.CAP_ANY


def _timeouts(options: SourceOptions) -> list[int]:
    return [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        max(1, round(options.open_timeout_s * 1000)),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        max(1, round(options.read_timeout_s * 1000)),
    ]


def _frame_count(video: cv2.VideoCapture) -> int | None:
    count = video.get(cv2.CAP_PROP_FRAME_COUNT)
    return round(count) if 0 < count < 1e9 else None  # unknown: negative, or infinity rounded
