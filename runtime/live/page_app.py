"""The live page's answers: the page, the stream, the rows, a snapshot, the figures. Starlette does the HTTP."""

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

from mien.runtime.live.broadcast import Feed, FeedFull
from mien.runtime.live.listen_socket import Listener
from mien.runtime.live.page_access import Guard, content_security_policy
from mien.runtime.live.page_stats import PROMETHEUS, PageStats, Result
from mien.runtime.output.rows import frame_row

logger = logging.getLogger("mien")

PAGE = Path(__file__).with_name("page.html")
BOUNDARY = b"--mien-frame\r\n"
MJPEG = "multipart/x-mixed-replace; boundary=mien-frame"
EVENTS = "text/event-stream"
RETRY = b"retry: 1000\n\n"
"""Milliseconds after which a browser comes back."""


class Shown(Protocol):
    """What the answers are made of."""

    pictures: Feed
    rows: Feed
    stats: PageStats

    async def snapshot(self) -> bytes | None:
        """The newest picture as JPEG; None before the first."""
        ...

    @property
    def given_up(self) -> int:
        """Connections that were stuck or too many."""
        ...


def picture_part(jpeg: bytes) -> bytes:
    """One picture of a stream. The next boundary comes with it: browsers show a picture only once they see that."""
    return b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n%b" % (len(jpeg), jpeg, BOUNDARY)


def row_event(result: Result) -> bytes:
    """A result as an event: the row of ``webcam --json``."""
    return b"data: %b\n\n" % json.dumps(frame_row(result.frame, result.faces)).encode()


def make_app(shown: Shown, listener: Listener) -> Starlette:
    """The application."""
    page = PAGE.read_text(encoding="utf-8")
    inline = re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", page, re.DOTALL)
    page_headers = {"Content-Security-Policy": content_security_policy(inline)}

    def clients() -> dict[str, int]:
        return {"stream": shown.pictures.watchers, "faces": shown.rows.watchers}

    async def index(_: Request) -> Response:
        return HTMLResponse(page, headers=page_headers)

    async def stream(_: Request) -> Response:
        return FeedResponse(shown.pictures, BOUNDARY, MJPEG)

    async def faces(_: Request) -> Response:
        return FeedResponse(shown.rows, RETRY, EVENTS)

    async def snapshot(_: Request) -> Response:
        jpeg = await shown.snapshot()
        return Response(jpeg, media_type="image/jpeg") if jpeg is not None else _later("no frame yet")

    async def stats(request: Request) -> Response:
        after = request.query_params.get("after", "0")
        known = int(after) if after.isascii() and after.isdecimal() and len(after) < 12 else 0
        return JSONResponse(shown.stats.to_row(after=known, clients=clients()))

    async def metrics(_: Request) -> Response:
        refused = shown.pictures.refused + shown.rows.refused
        text = shown.stats.to_prometheus(clients=clients(), refused=refused, given_up=shown.given_up)
        return Response(text, media_type=PROMETHEUS)

    async def healthz(_: Request) -> Response:
        healthy = shown.stats.healthy
        return PlainTextResponse("ok\n" if healthy else "no frame comes\n", 200 if healthy else 503)

    answers: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/": index,
        "/stream.mjpg": stream,
        "/faces": faces,
        "/snapshot.jpg": snapshot,
        "/stats": stats,
        "/metrics": metrics,
        "/healthz": healthz,
    }
    return Starlette(
        routes=[Route(path, answer, methods=["GET"]) for path, answer in answers.items()],
        middleware=[Middleware(Guard, listener=listener)],
        exception_handlers={Exception: _failed},
    )


class FeedResponse(StreamingResponse):
    """Sends the newest of a feed for as long as the client reads, from a seat of it; without one it is a 503."""

    def __init__(self, feed: Feed, preface: bytes, media_type: str) -> None:
        super().__init__(self._chunks(feed, preface), headers={"X-Accel-Buffering": "no"}, media_type=media_type)
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send."""
        if scope["method"] == "HEAD":
            await Response(media_type=self.media_type)(scope, receive, send)
            return
        try:
            with self._feed.seat():
                await super().__call__(scope, receive, send)
        except FeedFull:
            await _later("too many clients watch")(scope, receive, send)

    @staticmethod
    async def _chunks(feed: Feed, preface: bytes) -> AsyncIterator[bytes]:
        yield preface
        async for chunk in feed.chunks():
            yield chunk


def _later(reason: str) -> Response:
    return PlainTextResponse(f"{reason}; come back later\n", 503, {"Retry-After": "5"})


async def _failed(request: Request, error: Exception) -> Response:
    if not isinstance(error, LocalProtocolError):  # the client broke its request off: nothing failed here
        logger.error("live page: %r failed: %r", request.url.path, error)
    return PlainTextResponse("the server failed; its log says why\n", 500)
