"""Digest of label tables, by which a resumed training run recognizes its data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np


def label_digest(*tables: Any) -> str:
    """Return the SHA-256 of label tables and of their pictures' names and sizes.

    The digest does not depend on where the data folder is. Pictures are not read.

    Args:
        *tables: Label tables, each a dataclass with the paths of its pictures in `files`, or lists of paths.
    """
    digest = hashlib.sha256()
    for table in tables:
        if isinstance(table, list):
            files, columns = table, [tuple(table)]
        else:
            files, columns = table.files, [getattr(table, field.name) for field in fields(table)]
        root = os.path.commonpath([file.parent for file in files]) if files else ""
        for column in columns:
            for part in _parts(column, root):
                digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _parts(value: Any, root: str) -> Iterator[bytes]:
    """Yield the content of a table's column."""
    if isinstance(value, tuple):
        for item in value:
            yield from _parts(item, root)
    elif isinstance(value, Path):
        size = value.stat().st_size if value.is_file() else -1
        yield os.fsencode(os.path.relpath(value, root)) + str(size).encode()
    elif isinstance(value, np.ndarray):
        yield repr(value.shape).encode() + value.tobytes()
    else:
        yield repr(value).encode()
