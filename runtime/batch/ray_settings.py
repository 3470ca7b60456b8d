"""Environment variables for Ray, which reads them when it is imported."""

from __future__ import annotations

import os
import secrets


def configure_ray(address: str) -> None:
    """Disable Ray's usage reports and console log, and require a token on a cluster started here.

    A cluster listens on all network interfaces, so without a token anyone on the network could run code on it. The
    token is random, because Ray would store one in the home folder and later clusters would require it.

    Args:
        address: As for `process_on_ray`.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Failures are raised as errors; Ray's log would only interleave with the messages.
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address == "local" and "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
