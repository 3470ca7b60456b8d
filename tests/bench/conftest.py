"""A machine of files, for what is read from proc and sys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def machine() -> Callable[[Path, dict[str, str]], Path]:
    """Writes files below a root, and returns it."""

    def write(root: Path, files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    return write
