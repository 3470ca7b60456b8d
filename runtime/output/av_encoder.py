"""Writes video files with PyAV: each frame at its own time, H.264 or VP8, as browsers play them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from ..errors import OutputError
from ..values import Image

TICKS_PER_S = 90_000
"""MPEG's clock. Matroska and WebM round to milliseconds."""
H264 = ("libx264", {"preset": "superfast", "tune": "zerolatency", "crf": "21"})
"""Fast enough for a camera, and without reordering and look-ahead, which keep dozens of pictures in memory."""
VP8 = ("libvpx", {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "4M"})


class AvEncoder:
    """Encoder that keeps the time of each frame, and thus a variable rate; see `Encoder`.

    Args:
        path: File to write.
        size: (width, height) in px, both even.
        fps: Nominal frame rate, for the length of a single frame.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], *, fps: float) -> None:
        self._url = f"file:{path.absolute()}"
        self._interval = max(1, round(TICKS_PER_S / fps))
        self._last_pts: int | None = None
        self._held: av.Packet[VideoStream] | None = None
        codec, options = VP8 if path.suffix.lower() == ".webm" else H264
        try:
            # The index goes to the front, so that a page can play the file while loading it.
            muxer = {"movflags": "+faststart"} if path.suffix.lower() in (".mp4", ".mov") else {}
            self._container = av.open(self._url, "w", options=muxer)
            stream = self._container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(error.strerror or str(error)) from error
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, TICKS_PER_S)
        stream.codec_context.time_base = Fraction(1, TICKS_PER_S)
        # That of the conversion from BGR; players guess BT.709 for HD otherwise.
        stream.codec_context.colorspace = Colorspace.ITU601
        self._stream = stream

    def append(self, picture: Image, time_ns: int) -> None:
        """See `Encoder`."""
        frame = VideoFrame.from_ndarray(picture, format="bgr24")
        pts = round(time_ns * TICKS_PER_S / 1e9)
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
            self._interval = pts - self._last_pts
        frame.pts = self._last_pts = pts
        frame.time_base = Fraction(1, TICKS_PER_S)
        self._write(frame)

    def close(self) -> None:
        """See `Encoder`. The last picture is shown as long as the one before."""
        try:
            try:
                self._write(None)
                if self._held is not None:
                    self._held.duration = self._interval
                    self._container.mux(self._held)
                    self._held = None
            finally:
                self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(error.strerror or str(error)) from error

    def plays(self) -> bool:
        """See `Encoder`."""
        try:
            with av.open(self._url) as container:
                return next(container.decode(video=0), None) is not None
        except (av.error.FFmpegError, OSError, IndexError):
            return False

    def _write(self, frame: VideoFrame | None) -> None:
        """Encode a frame, or flush the encoder, and write all but the last packet with their durations."""
        try:
            for packet in self._stream.encode(frame):
                if self._held is not None and packet.pts is not None and self._held.pts is not None:
                    self._held.duration = packet.pts - self._held.pts
                    self._container.mux(self._held)
                self._held = packet
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(error.strerror or str(error)) from error
