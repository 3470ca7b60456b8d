"""What commands tell people, and the line to type when a training library is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console

from mien.runtime.errors import InputError

stderr = Console(stderr=True)


def say(text: str, *, style: str = "") -> None:
    """Tell people something, on standard error; square brackets are text, not markup."""
    stderr.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def needs_torch() -> Iterator[None]:
    """Turn a missing training library into the line to type."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] not in {
            "torch",
            "torchvision",
            "onnx",
            "onnxscript",
            "matplotlib",
            "plotly",
            "lightning_fabric",
        }:
            raise
        raise InputError(
            f"this needs {missing.name}, which is not installed; run: pip install 'mien[train]'"
        ) from missing
