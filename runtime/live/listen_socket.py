"""Binds the live page's socket; requires a token for non-loopback addresses."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from ..errors import InputError
from ..wording import counted

MIN_TOKEN = 16
"""Characters; shorter tokens can be guessed."""
SEND_BUFFER_BYTES = 1 << 18
"""Per client: a few pictures. The kernel's default is megabytes, which a slow client would see seconds late."""
MAKE_A_TOKEN = "export MIEN_TOKEN=$(python3 -c 'import secrets; print(secrets.token_urlsafe())')"
_PLAIN = re.compile(r"[A-Za-z0-9._~/=-]+")
"""Characters that need no escaping: browsers receive the token in the URL."""
_ADDRESS = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^\[\]:]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class ListenSocket:
    """A bound socket and who may use it.

    Attributes:
        socket: Listening socket.
        host: Host as given in the address.
        loopback: True if only this machine can reach it.
        token: Access token, or None if none is required.
    """

    socket: socket.socket
    host: str
    loopback: bool
    token: str | None

    @property
    def port(self) -> int:
        """The bound port, also when port 0 was requested."""
        port: int = self.socket.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """URL for a browser, without the token."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"


@contextmanager
def open_listen_socket(address: str, *, token: str | None = None) -> Iterator[ListenSocket]:
    """Bind a socket, and close it at the end of the block.

    Args:
        address: ``HOST:PORT``, such as ``[::1]:8080`` for IPv6; port 0 picks a free one.
        token: Access token; required unless the address is loopback.

    Raises:
        InputError: Starlette or uvicorn is missing, the address is invalid or in use, or the token is missing or weak.
    """
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"--serve needs {' and '.join(missing)}, which is not installed; run: pip install 'mien[serve]'"
        )
    host, port = _parse(address)
    token = token or None  # MIEN_TOKEN may be set but empty
    _check_token(token)
    try:
        family, _, _, _, bound = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"--serve {address}: no such address here ({error})") from error
    loopback = ipaddress.ip_address(str(bound[0]).partition("%")[0]).is_loopback
    if not loopback and token is None:
        raise InputError(
            f"--serve {address}: other machines can reach this address, so it needs a token; run: {MAKE_A_TOKEN}"
            " (or use 127.0.0.1 and an SSH tunnel)"
        )
    try:
        # Client sockets inherit the buffer size.
        listening = socket.create_server((str(bound[0]), port), family=family, backlog=128)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno is not None else error
        raise InputError(f"--serve {address}: cannot listen there ({reason}); choose another port") from error
    with listening:
        yield ListenSocket(listening, host, loopback, token)


def _parse(address: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found["port"]) > 65535:
        raise InputError(f"--serve expects HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080; found {address!r}")
    return found["six"] or found["host"], int(found["port"])


def _check_token(token: str | None) -> None:
    if token is None:
        return
    others = _PLAIN.sub("", token)
    if len(token) < MIN_TOKEN or others:
        found = counted(len(token), "character") + (f", including {others!r}" if others else "")
        raise InputError(
            f"the token must have at least {MIN_TOKEN} characters, and only letters, digits and . _ ~ / = - (it is "
            f"part of a URL); found {found}; run: {MAKE_A_TOKEN}"
        )
