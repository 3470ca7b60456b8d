"""Tries each new model in a separate process, as native libraries may crash on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import InputError, ProviderError
from ..files import cache_folder, read_text_or_none
from ..isolated import call_isolated, is_isolated
from .model_file import ModelFile
from .shipped import WEIGHTS

_here: set[str] = set()
"""Models that this process has already tried."""


def try_first(model: ModelFile, *, runtime: str, open_it: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Open a model in a separate process, once per machine, unless it ships with mien.

    Args:
        model: The model.
        runtime: Name and version of the library that opens it, and the provider.
        open_it: Function of a module that takes `model` and `args`.
        args: Further arguments.

    Raises:
        ModelError: The library cannot open or run it.
        ProcessFailed: The library crashed.
        MemoryError: There is not enough memory for the model.
    """
    if is_isolated() or (isinstance(model.content, Path) and model.content.parent == WEIGHTS):
        return
    mark = f"{model.sha256} {runtime}"
    if mark in _here or mark in _tried_before():
        return
    hint = "use another model, or another version of the library"
    try:
        call_isolated(open_it, model, *args, doing=f"{runtime} opened {model.name}", hint=hint)
    except ProviderError:  # the caller will meet it too, unless only one process at a time may use the GPU
        return
    _here.add(mark)
    with suppress(OSError, InputError):  # without a cache, the next process tries again
        _tried().parent.mkdir(parents=True, exist_ok=True)
        with _tried().open("a", encoding="utf-8") as file:
            file.write(f"{mark}\n")


def _tried_before() -> list[str]:
    try:
        return (read_text_or_none(_tried()) or "").splitlines()
    except InputError:  # this user has no home
        return []


def _tried() -> Path:
    return cache_folder() / "tried_models.txt"
