"""Starlette application of the live page: page, stream, rows, snapshot, statistics."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

from h11 import LocalProtocolError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..output.rows import frame_row
from .broadcast import LatestBroadcast, TooManySubscribers
from .listen_socket import ListenSocket
from .page_access import AccessMiddleware, content_security_policy
from .page_stats import PROMETHEUS, PageStats, Result

logger = logging.getLogger("mien")

PAGE = Path(__file__).with_name("page.html")
BOUNDARY = b"--mien-frame\r\n"
MJPEG = "multipart/x-mixed-replace; boundary=mien-frame"
EVENTS = "text/event-stream"
RETRY = b"retry: 1000\n\n"
"""Milliseconds after which a browser reconnects."""


class PageState(Protocol):
    """State that the endpoints read."""

    pictures: LatestBroadcast
    rows: LatestBroadcast
    stats: PageStats

    async def snapshot(self) -> bytes | None:
        """Return the latest picture as JPEG, or None before the first."""
        ...

    @property
    def aborted(self) -> int:
        """Number of connections aborted because they stalled or exceeded the limit."""
        ...


def picture_part(jpeg: bytes) -> bytes:
    """Encode one picture of the MJPEG stream, with the next boundary: browsers show a picture only once they see it."""
    return b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n%b" % (len(jpeg), jpeg, BOUNDARY)


def row_event(result: Result) -> bytes:
    """Encode a result as a server-sent event: the row of ``webcam --json``."""
    return b"data: %b\n\n" % json.dumps(frame_row(result.frame, result.faces)).encode()


def make_app(state: PageState, listen_socket: ListenSocket) -> Starlette:
    """Build the application that serves `state`, with the access rules of `listen_socket`."""
    page = PAGE.read_text(encoding="utf-8")
    inline = re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", page, re.DOTALL)
    page_headers = {"Content-Security-Policy": content_security_policy(inline)}

    def clients() -> dict[str, int]:
        return {"stream": state.pictures.subscribers, "faces": state.rows.subscribers}

    async def index(_: Request) -> Response:
        return HTMLResponse(page, headers=page_headers)

    async def stream(_: Request) -> Response:
        return BroadcastResponse(state.pictures, BOUNDARY, MJPEG)

    async def faces(_: Request) -> Response:
        return BroadcastResponse(state.rows, RETRY, EVENTS)

    async def snapshot(_: Request) -> Response:
        jpeg = await state.snapshot()
        return Response(jpeg, media_type="image/jpeg") if jpeg is not None else _later("no frame yet")

    async def stats(request: Request) -> Response:
        after = request.query_params.get("after", "0")
        known = int(after) if after.isascii() and after.isdecimal() and len(after) < 12 else 0
        return JSONResponse(state.stats.to_dict(after=known, clients=clients()))

    async def metrics(_: Request) -> Response:
        refused = state.pictures.refused + state.rows.refused
        text = state.stats.to_prometheus(clients=clients(), refused=refused, aborted=state.aborted)
        return Response(text, media_type=PROMETHEUS)

    async def healthz(_: Request) -> Response:
        healthy = state.stats.healthy
        return PlainTextResponse("ok\n" if healthy else "no new frames\n", 200 if healthy else 503)

    endpoints: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/": index,
        "/stream.mjpg": stream,
        "/faces": faces,
        "/snapshot.jpg": snapshot,
        "/stats": stats,
        "/metrics": metrics,
        "/healthz": healthz,
    }
    return Starlette(
        routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in endpoints.items()],
        middleware=[Middleware(AccessMiddleware, listen_socket=listen_socket)],
        exception_handlers={Exception: _failed},
    )


class BroadcastResponse(StreamingResponse):
    """Response that streams a broadcast for as long as the client reads, or 503 if it is full."""

    def __init__(self, broadcast: LatestBroadcast, preface: bytes, media_type: str) -> None:
        super().__init__(self._chunks(broadcast, preface), headers={"X-Accel-Buffering": "no"}, media_type=media_type)
        self._broadcast = broadcast

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        if scope["method"] == "HEAD":
            await Response(media_type=self.media_type)(scope, receive, send)
            return
        try:
            with self._broadcast.subscription():
                await super().__call__(scope, receive, send)
        except TooManySubscribers:
            await _later("too many viewers")(scope, receive, send)

    @staticmethod
    async def _chunks(broadcast: LatestBroadcast, preface: bytes) -> AsyncIterator[bytes]:
        yield preface
        async for chunk in broadcast.chunks():
            yield chunk


def _later(reason: str) -> Response:
    return PlainTextResponse(f"{reason}; try again later\n", 503, {"Retry-After": "5"})


async def _failed(request: Request, error: Exception) -> Response:
    if not isinstance(error, LocalProtocolError):  # the client disconnected: nothing failed here
        logger.error("live page: %r failed: %r", request.url.path, error)
    return PlainTextResponse("internal error; see the log of mien webcam\n", 500)
