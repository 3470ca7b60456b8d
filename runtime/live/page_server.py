"""The live page of a run: a sink whose HTTP server lives in a thread of its own and never makes the run wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mien.runtime.capture.capture import Capture
from mien.runtime.errors import OutputError
from mien.runtime.faces.stage_timer import StageTimer
from mien.runtime.live.broadcast import Feed
from mien.runtime.live.listen_socket import Listener
from mien.runtime.live.page_app import make_app, picture_part, row_event
from mien.runtime.live.page_stats import PageStats, Result
from mien.runtime.output.overlay import draw_faces
from mien.runtime.values import Faces, Frame, Image, size_of

STREAM_HZ = 10.0
"""Pictures and rows a second that clients get at most; it is what watching costs."""
STREAM_SIDE = 960
"""Longer side of the stream's pictures, px."""
STREAM_QUALITY, SNAPSHOT_QUALITY = 70, 92
"""Of JPEG, out of 100."""
SEATS = 32
"""Clients of the stream, and as many of the rows."""
STUCK_S = 10.0
"""A client that takes nothing, or that does not finish its request, is given up after so long."""
MAX_CONNECTIONS = 256
GRACE_S = 2
"""How long clients may take for their last picture once the run has ended."""


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, which waits for ever for a client that stops to read or to ask; here its patience ends.

    given_up: how many connections that were, and those beyond `MAX_CONNECTIONS`.
    """

    given_up = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        self.access_log = False  # a program's log would tell the token
        self._stuck: asyncio.TimerHandle | None = None
        self._next_look = self.loop.call_later(STUCK_S, self._look, (None, 0))
        if len(self.connections) > MAX_CONNECTIONS:
            self._give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._next_look.cancel()
        if self._stuck is not None:
            self._stuck.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not keep up."""
        super().pause_writing()
        self._stuck = self.loop.call_later(STUCK_S, self._give_up)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()

    def _look(self, before: tuple[object, int]) -> None:
        """Give up a connection that is not being answered and where nothing was asked or read since the last look."""
        now = self.cycle, self.transport.get_write_buffer_size()
        if now == before and (self.cycle is None or self.cycle.response_complete):
            self._give_up()
        else:
            self._next_look = self.loop.call_later(STUCK_S, self._look, now)

    def _give_up(self) -> None:
        type(self).given_up += 1
        self.transport.abort()  # to close it would wait for the client to read


class LivePage:
    """Serves the newest result to browsers; `close` sends the last one before it ends.

    `write` only leaves the result behind: drawing, encoding and sending are done elsewhere, for what is watched, once
    for all clients, at most `stream_hz` times a second. What goes wrong in the server is raised by `write` or `close`.

    capture, stages, provider: what the figures are of; `stages` is the clock of the `LiveRun`.
    """

    wants_picture = False

    def __init__(
        self,
        listener: Listener,
        capture: Capture,
        stages: StageTimer,
        *,
        provider: str,
        stream_hz: float = STREAM_HZ,
        seats: int = SEATS,
    ) -> None:
        self.pictures, self.rows = Feed(seats=seats), Feed(seats=seats)
        self.stats = PageStats(capture, stages, provider=provider, latest=lambda: self._latest)
        self._latest: Result | None = None
        self._period_s = 1 / stream_hz
        self._snapshot: tuple[float, bytes] = (-1.0, b"")
        self._listener = listener
        self._failure: BaseException | None = None
        # A class of its own, which counts for this page only.
        self._protocol: type[PatientProtocol] = type("PageProtocol", (PatientProtocol,), {})
        self._ended, self._one_at_a_time = asyncio.Event(), asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mien page", daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def given_up(self) -> int:
        """Connections that were stuck or too many."""
        return self._protocol.given_up

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Show one result."""
        self._raise_failure()
        number = self._latest.number + 1 if self._latest is not None else 1
        self._latest = Result(frame, faces, number, time.monotonic_ns())
        return True

    def close(self) -> None:
        """Send the last result, end the server and wait for its thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed where the server has failed
                self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(GRACE_S + 3)
        if self._thread.is_alive():
            raise OutputError("the live page's server does not end; it is left behind")
        self._raise_failure()

    async def snapshot(self) -> bytes | None:
        """The newest picture as JPEG, in full size, as old as one of the stream at most; None before the first."""
        async with self._one_at_a_time:
            latest = self._latest
            if latest is None:
                return None
            made_at, jpeg = self._snapshot
            if not jpeg or time.monotonic() - made_at > self._period_s:
                made_at = time.monotonic()
                jpeg = await asyncio.to_thread(drawn_jpeg, latest, None, SNAPSHOT_QUALITY)
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
        # uvicorn logs requests that are none, and so on: nothing to tell people unless a program asks for it.
        logging.getLogger("uvicorn").addHandler(logging.NullHandler())
        config = uvicorn.Config(
            make_app(self, self._listener),
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

        tasks = [asyncio.create_task(work) for work in (self._publish(), self._repeat(self.stats.sample, 1.0))]
        for task in tasks:
            task.add_done_callback(end_server)
        self._started.set()
        await server.serve(sockets=[self._listener.socket])
        for connection in list(server.server_state.connections):
            connection.transport.abort()  # it had its time
        self._ended.set()
        await asyncio.gather(*tasks)

    async def _repeat(self, step: Callable[[], None], period_s: float) -> None:
        while not self._ended.is_set():
            await self._pause(period_s)
            step()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    async def _publish(self) -> None:
        """Make and publish what is watched, up to the last result."""
        sent, due = 0, time.monotonic()
        ended = False
        while not ended:
            due = max(due + self._period_s, time.monotonic())
            await self._pause(due - time.monotonic())
            ended = self._ended.is_set()
            latest = self._latest
            if latest is None or latest.number == sent:
                continue
            sent = latest.number
            if self.rows.watchers:
                self.rows.publish(await asyncio.to_thread(row_event, latest))
            if self.pictures.watchers:
                jpeg = await asyncio.to_thread(drawn_jpeg, latest, STREAM_SIDE, STREAM_QUALITY)
                self.pictures.publish(picture_part(jpeg))
        self.rows.end()
        self.pictures.end()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure


def drawn_jpeg(result: Result, max_side: int | None, quality: int) -> bytes:
    """The picture with its faces as JPEG, reduced by a whole number to a longer side of at most `max_side` px."""
    pixels, faces = result.frame.pixels, result.faces
    width, height = size_of(pixels)
    shrink = 1 if max_side is None else -(-max(width, height) // max_side)
    if shrink > 1:
        # Whole numbers of whole pixels take a third of the time.
        size = max(1, width // shrink), max(1, height // shrink)
        whole = pixels[: size[1] * shrink, : size[0] * shrink]
        pixels = np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        faces = faces.with_fields(boxes=faces.boxes / shrink, landmarks=faces.landmarks / shrink)
    done, data = cv2.imencode(".jpg", draw_faces(pixels, faces), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise OutputError(f"OpenCV cannot encode a picture of {size_of(pixels)} px as JPEG")
    return data.tobytes()
