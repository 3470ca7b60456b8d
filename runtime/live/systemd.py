"""Notifies systemd that a live run is ready, alive or stopping, as in sd_notify(3).

Without ``NOTIFY_SOCKET`` nothing is sent. Only completed frames feed the watchdog, so a stuck camera, a hanging
provider and a blocking output all lead to a restart.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

logger = logging.getLogger("mien")

PINGS_PER_INTERVAL = 4


class ServiceNotifier:
    """Sender of the notifications of one run.

    Args:
        environment: Environment variables.
        clock: Monotonic time in ns.
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
        # Non-blocking: a manager that does not read must not delay a frame.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        if self._socket is not None:
            self._socket.setblocking(False)

    def frame_done(self) -> None:
        """Send READY after the first frame, and WATCHDOG four times per watchdog interval after later ones."""
        if self._socket is None:
            return
        now = self._clock()
        if not self._ready:
            self._ready = True
            self._last_ns = now
            self._send("READY=1\nSTATUS=processing frames\nWATCHDOG=1")
        elif self._interval_ns and now - self._last_ns >= self._interval_ns:
            self._last_ns = now
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Send STOPPING; a second call does nothing."""
        if self._socket is not None:
            self._send("STOPPING=1")
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        assert self._socket is not None
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as error:  # a lost notification must not end the run
            logger.warning("cannot notify the service manager at NOTIFY_SOCKET (%s)", error)


def _address(name: str) -> str:
    return f"\0{name[1:]}" if name.startswith("@") else name


def _watchdog_ns(environment: Mapping[str, str]) -> int:
    """Read the watchdog interval; 0 if there is none or it is meant for another process."""
    usec = environment.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    return int(usec) * 1000
