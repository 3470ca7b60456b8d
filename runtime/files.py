"""Helpers for files: reading small ones, hashing, locating the cache folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def read_text_or_none(path: Path) -> str | None:
    """Read a small file such as those in ``/proc``; return None if it is missing, unreadable or empty."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:  # some thermal zones of a Jetson fail with EAGAIN while their unit is powered off
        return None


def cache_folder() -> Path:
    """Return the cache folder, ``$MIEN_CACHE`` or else ``mien`` in the user's cache; it may not exist yet."""
    if chosen := os.environ.get("MIEN_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mien"


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 digest of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
