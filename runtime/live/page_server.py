"""Serves the live page of a run: a sink whose HTTP server runs in its own thread and never blocks the run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time

import cv2
import numpy as np
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..capture.capture import Capture
from ..errors import OutputError
from ..models.spec import Precision
from ..output.overlay import USUAL, OverlayStyle, draw_faces
from ..pictures.images import QUALITY, encode_image
from ..stage_timer import StageTimer
from ..values import Faces, Frame, Image, size_of
from .broadcast import LatestBroadcast
from .listen_socket import ListenSocket
from .page_app import make_app, picture_part, row_event
from .page_stats import PageStats, Result

STREAM_HZ = 10.0
"""Maximum pictures and rows per second, which bounds the cost of watching."""
STREAM_SIDE = 960
"""Longer side of the stream's pictures, px."""
STREAM_QUALITY = 70
"""JPEG quality of the stream's pictures, 0 to 100."""
MAX_SUBSCRIBERS = 32
"""Of the stream, and separately of the rows."""
STALL_TIMEOUT_S = 10.0
"""Time between two checks that a client has gone on reading, or sending its request; else it is disconnected."""
MAX_CONNECTIONS = 256
GRACE_S = 2
"""Time that clients have to receive the last picture once the run has ended."""


class TimeoutH11Protocol(H11Protocol):
    """Uvicorn's protocol with timeouts, as it waits forever for clients that stop reading or sending.

    Attributes:
        aborted: Connections aborted because they stalled or exceeded `MAX_CONNECTIONS`.
    """

    aborted = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, unless there are too many."""
        super().connection_made(transport)
        self.access_log = False  # it would write the token to the log of an embedding program
        self._next_check = self.loop.call_later(STALL_TIMEOUT_S, self._check_progress, (None, 0))
        if len(self.connections) > MAX_CONNECTIONS:
            self._abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer of a closed connection."""
        self._next_check.cancel()
        super().connection_lost(exc)

    def _check_progress(self, before: tuple[object, int]) -> None:
        """Abort a connection without progress since the last check, unless it waits for the next part of a response."""
        now = self.cycle, self.transport.get_write_buffer_size()
        waits = self.cycle is not None and not self.cycle.response_complete and not self.flow.write_paused
        if now == before and not waits:
            self._abort()
        else:
            self._next_check = self.loop.call_later(STALL_TIMEOUT_S, self._check_progress, now)

    def _abort(self) -> None:
        type(self).aborted += 1
        self.transport.abort()  # close() would wait for the client to read


class LivePage:
    """Sink that serves the latest result to browsers.

    `write` only stores the result. The server's thread draws, encodes and sends it, once for all clients and only
    while someone is watching. Errors of the server are raised by the next `write` or `close`.

    Args:
        listen_socket: Where to serve.
        capture: Source of the frame counts.
        stages: Timer of the `LiveRun`.
        provider: Provider to display.
        precision: Precision to display.
        style: What is drawn of the faces.
        stream_hz: Maximum rate of pictures and rows.
        max_subscribers: Clients of the stream, and separately of the rows; further ones get a 503.
    """

    needs_picture = False

    def __init__(
        self,
        listen_socket: ListenSocket,
        capture: Capture,
        stages: StageTimer,
        *,
        provider: str,
        precision: Precision = Precision.FP32,
        style: OverlayStyle = USUAL,
        stream_hz: float = STREAM_HZ,
        max_subscribers: int = MAX_SUBSCRIBERS,
    ) -> None:
        self.pictures = LatestBroadcast(max_subscribers=max_subscribers)
        self.rows = LatestBroadcast(max_subscribers=max_subscribers)
        self.stats = PageStats(capture, stages, provider=provider, precision=precision, latest=lambda: self._latest)
        self._latest: Result | None = None
        self._style = style
        self._period_s = 1 / stream_hz
        self._snapshot: tuple[float, bytes] = (-1.0, b"")
        self._listen_socket = listen_socket
        self._failure: BaseException | None = None
        # A subclass per page: uvicorn takes a class, and the count is on it.
        self._protocol: type[TimeoutH11Protocol] = type("PageProtocol", (TimeoutH11Protocol,), {})
        self._ended, self._snapshot_lock = asyncio.Event(), asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mien page", daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def aborted(self) -> int:
        """Number of connections aborted because they stalled or exceeded the limit."""
        return self._protocol.aborted

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Store one result for the server."""
        self._raise_failure()
        number = self._latest.number + 1 if self._latest is not None else 1
        self._latest = Result(frame, faces, number, time.monotonic_ns())
        return True

    def close(self) -> None:
        """Send the last result, stop the server and join its thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed if the server has failed
                self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(GRACE_S + 3)
        if self._thread.is_alive():
            raise OutputError("the live page's server did not stop in time")
        self._raise_failure()

    async def snapshot(self) -> bytes | None:
        """Encode the latest picture at full size, at most `stream_hz` times per second; None before the first."""
        async with self._snapshot_lock:
            latest = self._latest
            if latest is None:
                return None
            made_at, jpeg = self._snapshot
            if not jpeg or time.monotonic() - made_at > self._period_s:
                made_at = time.monotonic()
                jpeg = await asyncio.to_thread(drawn_jpeg, latest, None, QUALITY, self._style)
                self._snapshot = made_at, jpeg
            return jpeg

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that writes and closes
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        # uvicorn logs malformed requests and the like, which concern nobody unless a program configures its logger.
        logging.getLogger("uvicorn").addHandler(logging.NullHandler())
        config = uvicorn.Config(
            make_app(self, self._listen_socket),
            http=self._protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        server = uvicorn.Server(config)

        def end_server(_: object) -> None:
            server.should_exit = True

        tasks = [asyncio.create_task(work) for work in (self._publish(), self._sample())]
        for task in tasks:
            task.add_done_callback(end_server)
        self._started.set()
        await server.serve(sockets=[self._listen_socket.socket])
        for connection in list(server.server_state.connections):
            connection.transport.abort()  # it had its grace period
        self._ended.set()
        await asyncio.gather(*tasks)

    async def _sample(self) -> None:
        while not await self._ends_within(1.0):
            self.stats.sample()

    async def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)
        return self._ended.is_set()

    async def _publish(self) -> None:
        """Draw and publish results while there are subscribers, up to the last result."""
        sent, due = 0, time.monotonic()
        ended = False
        while not ended:
            due = max(due + self._period_s, time.monotonic())
            ended = await self._ends_within(due - time.monotonic())
            latest = self._latest
            if latest is None or latest.number == sent:
                continue
            sent = latest.number
            if self.rows.subscribers:
                self.rows.publish(await asyncio.to_thread(row_event, latest))
            if self.pictures.subscribers:
                jpeg = await asyncio.to_thread(drawn_jpeg, latest, STREAM_SIDE, STREAM_QUALITY, self._style)
                self.pictures.publish(picture_part(jpeg))
        self.rows.end()
        self.pictures.end()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure


def drawn_jpeg(result: Result, max_side: int | None, quality: int, style: OverlayStyle = USUAL) -> bytes:
    """Draw the faces and encode the picture as JPEG.

    Args:
        result: Picture and faces.
        max_side: Limit of the longer side in px; the picture is reduced by an integer factor.
        quality: 0 to 100.
        style: What is drawn of the faces.
    """
    pixels, faces = result.frame.pixels, result.faces
    width, height = size_of(pixels)
    shrink = 1 if max_side is None else -(-max(width, height) // max_side)
    if shrink > 1:
        # INTER_AREA takes a third of the time for an integer factor of whole pixels.
        size = max(1, width // shrink), max(1, height // shrink)
        whole = pixels[: size[1] * shrink, : size[0] * shrink]
        pixels = np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        faces = faces.with_fields(boxes=faces.boxes / shrink, landmarks=faces.landmarks / shrink)
    drawn = draw_faces(pixels, faces, classes=result.frame.classes, style=style)
    return encode_image(drawn, suffix=".jpg", quality=quality)
