"""What Ray is told through its environment, which it reads as it is imported: call this first."""

from __future__ import annotations

import os
import secrets


def settle_ray(address: str) -> None:
    """Let Ray report nothing about its use, keep its log in files, and guard a cluster that is started here.

    The ports of a cluster listen on every interface; without a secret, anybody there could send it work. By itself Ray
    would keep one in the home folder, and later clusters would ask for it.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # What goes wrong is told by the error; Ray's own words would stand between.
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address == "local" and "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
