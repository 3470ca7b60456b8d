"""What a service manager is told of a live run: that it is ready, that frames still come through, that it ends.

The protocol of sd_notify(3): lines in a datagram to the socket that ``NOTIFY_SOCKET`` names. Nothing happens where
nobody asks for it. The watchdog is fed by whole frames alone, so a camera that is stuck, a provider that hangs and an
output that blocks all end in a restart.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

log = logging.getLogger("mien")

PINGS_PER_INTERVAL = 4


class ServiceNotifier:
    """Speaks to systemd for one run; `close` it.

    clock: monotonic ns.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._interval_ns = _watchdog_ns(environment) // PINGS_PER_INTERVAL
        self._clock = clock
        self._ready = False
        self._last_ns = 0
        # Not to wait: a manager that does not read must not hold a frame up.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        if self._socket is not None:
            self._socket.setblocking(False)

    def frame_done(self) -> None:
        """Tell that a frame came through: ready at the first, alive later on, four times a watchdog interval."""
        if self._socket is None:
            return
        now = self._clock()
        if not self._ready:
            self._ready = True
            self._last_ns = now
            self._send("READY=1\nSTATUS=frames come through\nWATCHDOG=1")
        elif self._interval_ns and now - self._last_ns >= self._interval_ns:
            self._last_ns = now
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Tell that the run ends; a second call does nothing."""
        if self._socket is not None:
            self._send("STOPPING=1")
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        assert self._socket is not None
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as error:  # the run is worth more than the notice
            log.warning("the service manager at NOTIFY_SOCKET cannot be told (%s)", error)


def _address(name: str) -> str:
    return f"\0{name[1:]}" if name.startswith("@") else name


def _watchdog_ns(environment: Mapping[str, str]) -> int:
    """The watchdog's interval, 0 where there is none or where it is meant for another process."""
    wanted = environment.get("WATCHDOG_USEC", "")
    if not wanted.isdecimal() or environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    return int(wanted) * 1000
