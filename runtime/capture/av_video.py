"""Reads video files and network streams with PyAV, which reports frame times, orientation, pixel shape and damage."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import av.container
import av.error
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from ..credentials import mask_secrets
from ..errors import InputError
from ..values import Image, size_of
from .av_log import container_errors
from .frame_shape import square_width, upright
from .frame_times import FrameTimes
from .sources import (
    MAX_FPS,
    NOMINAL_FPS,
    Clock,
    OpenedSource,
    PacedSource,
    RawFrame,
    SourceInfo,
    SourceLost,
    SourceOptions,
)

if int(av.__version__.partition(".")[0]) < 17:
    raise ImportError(f"PyAV 17 or later is needed, found {av.__version__}")  # and OpenCV takes over

MAX_BROKEN_PACKETS = 30
"""Consecutive undecodable packets after which a source counts as lost."""
MARKED_ENDS = ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "avi", "ogg")
"""Containers that tell a missing end from their own; in the others, a stream that just stops has no end."""
BROKEN_OFF = ("File ended prematurely", "Read error", "partial file")
"""What the demuxers of FFmpeg log when a file stops within an element; the calls return a plain end of file."""
NO_LENGTH = f"should be {2**64 - 1}"
"""What FFmpeg's HTTP client logs at the end of a transfer that announced no length: it cannot know better."""
SEGMENTED = ("hls", "dash")
"""Formats whose stream is cut into files, which arrive in bursts; the URL only names a list of them."""
LONGEST_PAUSE_S = 1.0
"""In such a stream, times that are further apart show that a part has expired before it was read."""
LISTS = (*SEGMENTED, "sdp")
"""Formats whose size is that of a list or description, not of the video."""
TEXT_CODECS = ("ansi", "bintext", "xbin", "idf")
"""FFmpeg renders any text file as a video of a terminal."""


class AvSource:
    """Source that reads an open PyAV container.

    Frames are turned and mirrored as the display matrix says, and scaled to square pixels.

    Args:
        container: Opened container.
        name: Display name.
        clock: Timestamps frames on arrival, before they are decoded; None: use the timestamps of the file.

    Attributes:
        size: (width, height) in px of the first frame.

    Raises:
        InputError: There is no video, or no frame can be decoded.
    """

    def __init__(self, container: av.container.InputContainer, name: str, *, clock: Clock | None) -> None:
        self._container = container
        self._name = name
        self._clock = clock
        self._reformatter = VideoReformatter()
        self._lock = threading.Lock()
        self._closed = False
        self._damage: str | None = None
        self._begun = False
        try:
            self._stream = _video_stream(container, name)
            self._times = FrameTimes(round(1e9 / (frame_rate(self._stream) or NOMINAL_FPS)))
            self._frames = self._decode()
            first = next(self._frames, None)
            if first is None:
                raise InputError(f"{name} can be opened, but delivers no picture")
        except (InputError, av.error.FFmpegError):
            container.close()
            raise
        self._first: RawFrame | None = first
        self.size = size_of(first[0])

    def info(self) -> SourceInfo:
        """Describe the source; without a clock it is a recording."""
        live = self._clock is not None
        return SourceInfo(
            self._name,
            live=live,
            reconnectable=live,
            marks_end=self._container.format.name in MARKED_ENDS,
            size=self.size,
            fps=frame_rate(self._stream),
            frame_count=self._stream.frames or None,
        )

    def read(self) -> RawFrame | None:
        """See `Source`."""
        with self._lock:
            if self._closed:
                return None
            first, self._first = self._first, None
            return next(self._frames, None) if first is None else first

    def close(self) -> None:
        """See `Source`. While another thread reads, the container stays open; that thread's own close releases it."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._container.close()
            finally:
                self._lock.release()

    def _decode(self) -> Iterator[RawFrame]:
        """Decode all packets; what cannot be decoded is passed over, and raised at the end of a recording."""
        broken = 0
        lost = LostPackets()
        in_parts = self._container.format.name in SEGMENTED  # each of them may number its packets from 0
        for packet in self._packets():
            if lost.seen_before(packet) and not in_parts:
                self._note_damage("a packet is incomplete")
            arrived_ns = None if self._clock is None else self._clock()
            try:
                frames = self._stream.decode(packet)
                broken = 0
            except av.error.FFmpegError as error:
                frames, broken = [], broken + 1
                self._note_damage(_reason(error))
                if broken > MAX_BROKEN_PACKETS:
                    break
            for frame in frames:
                if frame.is_corrupt:
                    self._note_damage("a picture is incomplete")
                self._begun = True
                yield self._pixels(frame), self._times.next(self._time_ns(frame)) if arrived_ns is None else arrived_ns
        if self._damage is not None:
            raise SourceLost(f"{self._name} is damaged, or its end is missing ({self._damage})")

    def _packets(self) -> Iterator[av.Packet[VideoStream] | None]:
        """Read packets; then None, which makes the decoder return the frames it has kept back."""
        packets = self._container.demux(self._stream)
        while True:
            packet, failure = None, None
            with container_errors() as logged:
                try:
                    packet = next(packets)
                except av.error.FFmpegError as error:
                    failure = _reason(error)
            if packet is None or packet.size == 0:
                break
            yield packet
        errors = [message.strip() for _, _, message in logged]
        broken_off = [line for line in errors if line.endswith(BROKEN_OFF)]
        if broken_off:
            self._damage = broken_off[0]
        elif failure is not None and not any(NO_LENGTH in line for line in errors):
            self._damage = failure
        yield None

    def _note_damage(self, reason: str) -> None:
        # A recording may begin between two key frames, and a network loses packets: neither is damage.
        if self._begun and self._clock is None:
            self._damage = self._damage or reason

    def _time_ns(self, frame: VideoFrame) -> int | None:
        # AVI stores no times of presentation; where pictures are reordered, PyAV's are then wrong.
        ticks = frame.dts if self._container.format.name == "avi" else frame.pts
        base = self._stream.time_base  # frames that the decoder has kept back to the end do not know theirs
        return None if ticks is None or base is None else round(ticks * base * 1_000_000_000)

    def _pixels(self, frame: VideoFrame) -> Image:
        width = square_width(frame.width, self._stream.sample_aspect_ratio)
        # One thread: PyAV would start as many as there are cores, for a millisecond's work.
        bgr = self._reformatter.reformat(frame, width, frame.height, format="bgr24", threads=1).to_ndarray()
        # Not `frame.side_data`: a cycle of references, with which pictures pile up until garbage is collected.
        matrix = SideDataContainer(frame).get(SideDataType.DISPLAYMATRIX)  # type: ignore[call-arg]
        pixels = np.asarray(bgr, dtype=np.uint8)
        return pixels if matrix is None else upright(pixels, np.frombuffer(bytes(matrix), np.int32))


class LostPackets:
    """Detector of incomplete packets, other than those at the end of one of several joined files.

    MPEG-TS numbers its packets, so FFmpeg takes the end of a joined file for a loss; there, time goes back.
    """

    DELAY = 3
    """Packets in which time may still go back: the parser holds some."""

    def __init__(self) -> None:
        self._left = 0
        self._last_dts: int | None = None

    def seen_before(self, packet: av.Packet[VideoStream] | None) -> bool:
        """Take the next packet, or None at the end; return True once an earlier one is known to lack a part."""
        dts, last = None if packet is None else packet.dts, self._last_dts
        self._last_dts = dts
        if dts is not None and last is not None and dts < last:
            self._left = 0
        known = self._left == 1 or (self._left > 0 and packet is None)
        self._left = max(0, self._left - 1)
        if packet is not None and packet.is_corrupt:
            self._left = self.DELAY
        return known


def open_file(path: Path) -> OpenedSource:
    """Open a video file.

    Raises:
        InputError: The file is not a video, or no frame can be decoded.
    """
    try:
        container = av.open(f"file:{path.absolute()}")  # with the protocol named, a name is only a name
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{path} is not a video that can be read, or its end is missing ({_reason(error)}); "
            "try: ffmpeg -i IN -c:v libx264 OUT.mp4"
        ) from error
    source = AvSource(container, str(path), clock=None)
    return OpenedSource(source, source.info())


def open_stream(url: str, options: SourceOptions) -> OpenedSource:
    """Open an RTSP, HTTP or other URL; it counts as live unless its length is known.

    Raises:
        InputError: There is no video, or not within the timeout.
    """
    name = mask_secrets(url)
    try:
        container = av.open(
            url,
            options={"rtsp_transport": "tcp"},  # as OpenCV does: over UDP, most pictures of a busy network are torn
            timeout=(options.open_timeout_s, options.read_timeout_s),
        )
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{name} delivered no video ({_reason(error)}; waited up to {options.open_timeout_s:g} s); does ffplay "
            "show it? Check address, network and password"
        ) from error
    kind = container.format.name
    recorded = (container.duration or 0) > 0 or ((container.size or 0) > 0 and kind not in LISTS)
    segmented = kind in SEGMENTED and not recorded
    source = AvSource(container, name, clock=None if recorded or segmented else options.clock)
    if not segmented:
        return OpenedSource(source, source.info())
    paced = PacedSource(source, clock=options.clock, longest_pause_s=LONGEST_PAUSE_S)
    return OpenedSource(paced, replace(source.info(), live=True, reconnectable=True))


def frame_rate(stream: VideoStream) -> float | None:
    """Read the nominal frame rate; None if unknown, or if a time base (90000) is reported instead."""
    for rate in (stream.guessed_rate, stream.average_rate):
        if rate is not None and 0 < rate <= MAX_FPS:
            return float(rate)
    return None


def _video_stream(container: av.container.InputContainer, name: str) -> VideoStream:
    """Choose the video among the streams of a container.

    Raises:
        InputError: There is none.
    """
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise InputError(f"{name} is not a video: it holds no moving picture")
    if (codec := stream.codec_context) is None:  # type: ignore[redundant-expr,unused-ignore]
        raise InputError(f"{name} holds pictures in a format for which this FFmpeg has no decoder")
    if codec.name in TEXT_CODECS:
        raise InputError(f"{name} is not a video: it holds no moving picture")
    # Multithreaded decoding delays a stream by one frame per thread, and takes cores from inference.
    stream.codec_context.thread_count = 1
    return stream


def _reason(error: OSError | av.error.FFmpegError) -> str:
    """Say what FFmpeg reports, without the URL."""
    return "timed out" if isinstance(error, av.error.ExitError) else error.strerror or type(error).__name__
