"""Helpers for files: reading small ones, hashing, locating the cache folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from .errors import InputError


def read_text_or_none(path: Path) -> str | None:
    """Read a small file such as those in ``/proc``; return None if it is missing, unreadable or empty."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:  # some thermal zones of a Jetson fail with EAGAIN while their unit is powered off
        return None


def cache_folder() -> Path:
    """Return the cache folder, ``$MIEN_CACHE`` or else ``mien`` in the user's cache; it may not exist yet.

    Raises:
        InputError: This user has no home.
    """
    if chosen := os.environ.get("MIEN_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "mien"
    try:
        return Path.home() / ".cache" / "mien"
    except RuntimeError as error:
        raise InputError("this user has no home for a cache; set MIEN_CACHE=DIR to use another place") from error


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 digest of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
