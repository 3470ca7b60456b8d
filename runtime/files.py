"""Files: places to write to, checked before anything is computed; the cache; digests; the system's small ones."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from mien.runtime.errors import OutputError


def check_writable(path: Path) -> None:
    """Raise OutputError unless a file can be made at `path`; an existing file is left as it is."""
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"{path} is a folder, wanted a file")
    if not folder.is_dir():
        raise OutputError(f"no folder {folder} to write {path.name} into")
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK):
        raise OutputError(f"no permission to write {path}")


def read_text_or_none(path: Path) -> str | None:
    """A small file of the system, such as those in ``/proc``; None where it is not there or empty."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:  # some thermal zones of a Jetson answer "try again" while their part is off
        return None


def cache_folder() -> Path:
    """Where built engines are kept: ``$MIEN_CACHE``, else ``mien`` in the user's cache folder. It may not exist yet."""
    if chosen := os.environ.get("MIEN_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mien"


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def temp_path(path: Path) -> Path:
    """A name beside `path` for what is not whole yet: no other writer, and nobody's file, has it."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: the place cannot be written; what was there before still is.
    """
    partial = temp_path(path)
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
