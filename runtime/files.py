"""Places to write to, checked before anything is computed, and what the system keeps in small files."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import OutputError


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


def text_of(path: Path) -> str | None:
    """A small file of the system, such as those in ``/proc``; None where it is not there or empty."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None
