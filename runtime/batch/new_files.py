"""Name the files that are made beside the rows, so that none replaces another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InputError, OutputError
from ..file_kinds import is_folder
from ..outputs import free_path

MAX_STEM_BYTES = 200
"""Longest part of a picture's name in that of a new file; file systems take 255 bytes."""


class NewFiles:
    """Names files in a folder after their sources.

    Args:
        folder: Created if missing.
        taken: Files that are about to be made; each new name is added.

    Raises:
        OutputError: The folder cannot be made.
    """

    def __init__(self, folder: Path, taken: set[Path]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise OutputError(f"{folder} is a file, expected a folder") from error
        except OSError as error:
            raise OutputError(f"cannot create the folder {folder} ({error.strerror})") from error
        self._folder = folder.resolve()
        self._taken = taken

    def name(self, source: Path, suffix: str) -> Path:
        """Return a name of which there is no file: that of the source, with another suffix and a number if need be."""
        stem = os.fsencode(source.stem)[:MAX_STEM_BYTES].decode(errors="ignore")
        path = free_path(self._folder / f"{stem}{suffix}", self._taken)
        self._taken.add(path)
        return path


def resolved(files: Iterable[Path | str | None]) -> set[Path]:
    """Return the places of the files that are given."""
    return {Path(file).resolve() for file in files if file is not None}


def check_folder(option: str, folder: Path, inputs: Sequence[Path]) -> None:
    """Raise InputError if `folder` is inside an input folder, where the next run would read the new pictures."""
    for place in inputs:
        if is_folder(place) and folder.resolve().is_relative_to(place.resolve()):
            raise InputError(
                f"{option} {folder} is inside the input {place}, where the next run would read the new pictures; "
                "give a folder outside it"
            )
