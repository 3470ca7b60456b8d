"""Where the live page listens: an address that is taken, and a token where others can reach it, before all else."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from mien.runtime.errors import InputError

MIN_TOKEN = 16
"""Characters; a shorter token can be guessed."""
SEND_BUFFER_BYTES = 1 << 18
"""What the system holds for a client that reads slowly: a few pictures, which it sees late. Its own choice is MBs."""
MAKE_A_TOKEN = "export MIEN_TOKEN=$(python3 -c 'import secrets; print(secrets.token_urlsafe())')"
_PLAIN = re.compile(r"[A-Za-z0-9._~/=-]+")
"""Characters that stand in an address as they are: a token is given to browsers in one."""
_ADDRESS = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^\[\]:]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens. host: as it was asked for. local: only this machine can reach it. token: None, no need."""

    socket: socket.socket
    host: str
    local: bool
    token: str | None

    @property
    def port(self) -> int:
        """The port; 0 was asked for: the one that the system chose."""
        port: int = self.socket.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """What to open in a browser, without the token."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"


@contextmanager
def open_listener(address: str, *, token: str | None = None) -> Iterator[Listener]:
    """Take ``HOST:PORT`` (``[::1]:8080`` for IPv6, port 0 for any); the socket is closed at the end.

    Raises:
        InputError: starlette or uvicorn is missing, no such address, the port is in use, or an address that other
            machines can reach comes without a token, or the token is weak.
    """
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"--serve needs {' and '.join(missing)}, which is not installed; run: pip install 'mien[serve]'"
        )
    host, port = _parse(address)
    token = token or None  # an empty variable is none
    _check_token(token)
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"--serve {address}: no such address here ({error})") from error
    local = ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback
    if not local and token is None:
        raise InputError(
            f"--serve {address}: other machines can reach it, so it wants a token; run: {MAKE_A_TOKEN}"
            " (or use 127.0.0.1 and an SSH tunnel)"
        )
    try:
        # The sockets of clients inherit the buffer's size.
        listening = socket.create_server((str(place[0]), port), family=family, backlog=128)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno is not None else error
        raise InputError(f"--serve {address}: cannot listen there ({reason}); take another port") from error
    with listening:
        yield Listener(listening, host, local, token)


def _parse(address: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found["port"]) > 65535:
        raise InputError(f"--serve wants HOST:PORT such as 127.0.0.1:8080 or [::1]:8080; found {address!r}")
    return found["six"] or found["host"], int(found["port"])


def _check_token(token: str | None) -> None:
    if token is None:
        return
    others = _PLAIN.sub("", token)
    if len(token) < MIN_TOKEN or others:
        found = f"{len(token)} characters" + (f", {others!r} among them" if others else "")
        raise InputError(
            f"the token wants at least {MIN_TOKEN} characters, and only letters, digits and . _ ~ / = -, as it stands "
            f"in an address; found {found}; run: {MAKE_A_TOKEN}"
        )
