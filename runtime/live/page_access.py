"""Access control of the live page: token, host name, and headers that keep other sites out."""

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

from .listen_socket import ListenSocket

OPEN_PATH = "/healthz"
"""Needs no token: monitoring should not hold a device's secret, and the answer says no more than healthy or not."""
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class AccessMiddleware:
    """ASGI middleware that enforces the token and host name of a `ListenSocket`."""

    def __init__(self, app: ASGIApp, *, listen_socket: ListenSocket) -> None:
        self._app = app
        self._names = LOCAL_NAMES | {listen_socket.host.lower()} if listen_socket.loopback else None
        self._token = listen_socket.token
        self._cookie = f"mien-{listen_socket.port}"  # cookies are shared by all ports of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse one request."""
        request = HTTPConnection(scope)
        if self._names is not None and _host_name(request) not in self._names:
            # DNS rebinding: a foreign site whose name resolves to this address could read everything.
            refusal = PlainTextResponse("use the host name localhost for this address\n", 421)
            await refusal(scope, receive, self._sender(send, {}))
            return
        given = request.query_params.get("token")
        by_query = given is not None and self._is_token(given)
        if not (by_query or scope["path"] == OPEN_PATH or self._is_authorized(request)):
            refusal = PlainTextResponse(
                "token required: open /?token=… or send the header Authorization: Bearer …\n",
                401,
                {"WWW-Authenticate": "Bearer"},
            )
            await refusal(scope, receive, self._sender(send, {}))
            return
        # Another site may embed the stream only if it knows the token.
        headers = {"Cross-Origin-Resource-Policy": "cross-origin" if by_query else "same-origin"}
        if by_query and scope["path"] == "/":
            headers["Set-Cookie"] = f"{self._cookie}={self._cookie_value()}; HttpOnly; SameSite=Strict; Path=/"
        await self._app(scope, receive, self._sender(send, headers))

    def _is_authorized(self, request: HTTPConnection) -> bool:
        if self._token is None:
            return True
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(bearer.strip()):
            return True
        return _same(request.cookies.get(self._cookie, ""), self._cookie_value())

    def _is_token(self, given: str) -> bool:
        return self._token is not None and _same(given, self._token)

    def _cookie_value(self) -> str:
        """Derive the cookie from the token: cookies reach every port of this host, and this one survives a restart."""
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
    """Build a Content-Security-Policy that restricts the page to its own code and this server.

    Args:
        inline: Contents of the page's script and style elements.
    """
    sources = " ".join(f"'sha256-{_base64_sha256(text)}'" for text in inline)
    return (
        f"default-src 'none'; script-src {sources}; style-src {sources}; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _base64_sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _same(given: str, expected: str) -> bool:
    """Compare in constant time, whatever the lengths."""
    return hmac.compare_digest(
        *(hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (given, expected))
    )


def _host_name(request: HTTPConnection) -> str | None:
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:  # such as an unclosed IPv6 bracket
        return None
