"""Names the files written in addition to the rows, so that none replaces another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InputError, OutputError
from ..file_kinds import is_folder
from ..output_paths import check_no_dash, followed, free_number, numbered

MAX_STEM_BYTES = 200
"""Maximum length of a picture's name within that of a new file, as file systems allow 255 bytes."""


class NewFiles:
    """Generator of file names in a folder, derived from their sources.

    Args:
        folder: Folder, created if missing.
        taken: Files that are about to be created; each new name is added.

    Raises:
        OutputError: The folder cannot be created.
    """

    def __init__(self, folder: Path, taken: set[Path]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise OutputError(f"{folder} is a file, expected a folder") from error
        except OSError as error:
            raise OutputError(f"cannot create the folder {folder} ({error.strerror})") from error
        self._folder = followed(folder)
        self._taken = taken
        self._numbers: dict[Path, int] = {}  # the next to try, for names met before: many folders may share one

    def name(self, source: Path, suffix: str) -> Path:
        """Return an unused name: that of the source, with another suffix and, if necessary, a number."""
        stem = source.stem
        while len(os.fsencode(stem)) > MAX_STEM_BYTES:
            stem = stem[:-1]
        first = self._folder / f"{stem}{suffix}"
        number = free_number(first, taken=self._taken, start=self._numbers.get(first, 1))
        if number > 1:
            self._numbers[first] = number + 1
        path = numbered(first, number)
        self._taken.add(path)
        return path


def resolved(files: Iterable[Path | str | None]) -> set[Path]:
    """Return the resolved paths of the given files."""
    return {followed(Path(file)) for file in files if file is not None}


def check_folder(option: str, folder: Path, inputs: Sequence[Path]) -> None:
    """Raise InputError if `folder` is ``-``, or in an input folder, where the next run would read the new pictures."""
    check_no_dash(option, folder)
    for place in inputs:
        if is_folder(place) and followed(folder).is_relative_to(followed(place)):
            raise InputError(
                f"{option} {folder} is inside the input {place}, where the next run would read the new pictures; "
                "pass a folder outside it"
            )
