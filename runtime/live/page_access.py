"""Who may ask the live page: its token, its own name as host, and the headers that keep other sites out."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mien.runtime.live.listen_socket import Listener

OPEN_PATH = "/healthz"
"""Needs no token: what watches over a device should hold no secret of it. It tells whether frames come, no more."""
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """ASGI middleware. See `Listener` for whom it lets in."""

    def __init__(self, app: ASGIApp, *, listener: Listener) -> None:
        self._app = app
        self._names = LOCAL_NAMES | {listener.host.lower()} if listener.local else None
        self._token = listener.token
        self._cookie = f"mien-{listener.port}"  # cookies of one host are shared by its ports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        asked = HTTPConnection(scope)
        if self._names is not None and _host_name(asked) not in self._names:
            # A foreign site whose name was pointed at this address (DNS rebinding) would read everything otherwise.
            refusal = PlainTextResponse("this address answers to the name localhost only\n", 421)
            await refusal(scope, receive, self._sender(send, {}))
            return
        given = asked.query_params.get("token")
        by_query = given is not None and self._is_token(given)
        if not (by_query or scope["path"] == OPEN_PATH or self._is_known(asked)):
            refusal = PlainTextResponse(
                "a token is wanted: open /?token=… or send the header Authorization: Bearer …\n",
                401,
                {"WWW-Authenticate": "Bearer"},
            )
            await refusal(scope, receive, self._sender(send, {}))
            return
        # Another site may show the stream only if it knows the token.
        headers = {"Cross-Origin-Resource-Policy": "cross-origin" if by_query else "same-origin"}
        if by_query and scope["path"] == "/":
            headers["Set-Cookie"] = f"{self._cookie}={self._cookie_value()}; HttpOnly; SameSite=Strict; Path=/"
        await self._app(scope, receive, self._sender(send, headers))

    def _is_known(self, asked: HTTPConnection) -> bool:
        if self._token is None:
            return True
        scheme, _, bearer = asked.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(bearer.strip()):
            return True
        return _same(asked.cookies.get(self._cookie, ""), self._cookie_value())

    def _is_token(self, given: str) -> bool:
        return self._token is not None and _same(given, self._token)

    def _cookie_value(self) -> str:
        """Not the token itself, which a cookie would tell to every port of this host; it outlives a restart."""
        assert self._token is not None
        return hmac.new(self._token.encode(), b"mien live page", hashlib.sha256).hexdigest()

    @staticmethod
    def _sender(send: Send, more: dict[str, str]) -> Send:
        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**HEADERS, **more}.items():
                    headers.append(name, value)
            await send(message)

        return sender


def content_security_policy(inline: Sequence[str]) -> str:
    """Let the page use only itself and this server. inline: the contents of its script and style elements."""
    sources = " ".join(f"'sha256-{_base64_sha256(text)}'" for text in inline)
    return (
        f"default-src 'none'; script-src {sources}; style-src {sources}; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _base64_sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _same(given: str, wanted: str) -> bool:
    """Compare in a time that tells nothing of either, their lengths included."""
    return hmac.compare_digest(*(hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (given, wanted)))


def _host_name(asked: HTTPConnection) -> str | None:
    try:
        return urlsplit(f"//{asked.headers.get('host', '')}").hostname
    except ValueError:  # such as half an IPv6 address
        return None
