"""Suggests corrections of misspelt words and paths."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from .credentials import mask_text

MAX_NAMES = 10_000
"""Maximum number of names in a folder to compare; more would take seconds."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is closest to `word` or begins with it, or None if none is close."""
    known = list(known)
    begins = [name for name in known if len(word) > 2 and name.startswith(word)]
    return next(iter(begins or get_close_matches(word, known, n=1, cutoff=0.7)), None)


def describe_missing(path: Path, wanted: str = "file") -> str:
    """Describe why there is no such file or folder: what is there instead, or what has a similar name.

    Args:
        path: Path that does not exist or is of another kind.
        wanted: Expected kind, such as ``folder`` or ``model file``.
    """
    if os.path.isdir(path):  # noqa: PTH112 - the methods of Path raise for odd names
        return f"{path} is a folder, expected a {wanted}"
    if os.path.exists(path):  # noqa: PTH110
        return f"{path} is a file, expected a {wanted}"
    parent = path.parent
    if not os.path.isdir(parent):  # noqa: PTH112
        # Not for a URL: a password in a part of it would no longer be recognized.
        deeper = parent != path and mask_text(str(path)) == str(path)
        return f"no {wanted} {path}" + (f": {describe_missing(parent, 'folder')}" if deeper else "")
    try:
        with os.scandir(parent) as entries:
            near = nearest(path.name, [e.name for e in islice(entries, MAX_NAMES) if e.name != path.name])
    except (OSError, ValueError):
        near = None
    return f"no {wanted} {path}" + (f"; did you mean {parent / near}?" if near else "")
