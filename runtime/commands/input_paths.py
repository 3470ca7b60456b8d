"""Callbacks that check the files and folders named by options before any work starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..file_kinds import check_file
from ..near_names import describe_missing


def existing_file(given: Any) -> Any:
    """Return the path or paths that were given.

    Raises:
        InputError: There is no such file, or it is a folder, pipe or device.
    """
    for path in paths_of(given):
        check_file(path)
    return given


def existing_folder(given: Any) -> Any:
    """Return the path or paths that were given.

    Raises:
        InputError: There is no such folder, or it is a file.
    """
    for path in paths_of(given):
        if not os.path.isdir(path):  # noqa: PTH112 - Path raises for odd names
            raise InputError(describe_missing(path, "folder"))
    return given


def paths_of(given: Any) -> list[Path]:
    """Return the value of an option, which may be missing or several, as paths."""
    values = given if isinstance(given, (list, tuple)) else [] if given is None else [given]
    return [Path(value) for value in values]
