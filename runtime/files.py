"""Helpers for files: check that a path is writable, write atomically, hash, locate the cache folder."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from .errors import OutputError


def check_writable(path: Path) -> None:
    """Raise OutputError unless a file can be written at `path`; nothing is created or changed."""
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"{path} is a folder, expected a file")
    if not folder.is_dir():
        raise OutputError(f"no folder {folder} to write {path.name} into")
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK):
        raise OutputError(f"no permission to write {path}")


def read_text_or_none(path: Path) -> str | None:
    """Read a small file such as those in ``/proc``; None if it is missing, unreadable or empty."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:  # some thermal zones of a Jetson fail with EAGAIN while their unit is off
        return None


def cache_folder() -> Path:
    """Return the folder for built engines: ``$MIEN_CACHE``, else ``mien`` in the user's cache; it may not exist yet."""
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


def temp_path(path: Path) -> Path:
    """Return a unique name in the same folder for a file that is not complete yet."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file atomically.

    Args:
        path: File to write or replace.
        content: Its new content.

    Raises:
        OSError: The file cannot be written; an existing file is unchanged.
    """
    partial = temp_path(path)
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
