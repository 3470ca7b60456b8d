"""Names the files written in addition to the rows, so that none replaces another."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ..atomic_file import TEMP_PREFIX
from ..errors import InputError, OutputError
from ..file_kinds import is_folder
from ..output_paths import check_no_dash, followed, free_number, numbered

MAX_STEM_BYTES = 200
"""Maximum length of a picture's name within that of a new file, as file systems allow 255 bytes."""


class NewFiles:
    """Generator of names for new files in a folder, derived from their sources; other runs may share the folder.

    Args:
        folder: Folder, created if missing.
        reserved: Files that are about to be created there for other purposes.

    Raises:
        OutputError: The folder cannot be created.
    """

    def __init__(self, folder: Path, reserved: Collection[Path]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise OutputError(f"{folder} is a file, expected a folder") from error
        except OSError as error:
            raise OutputError(f"cannot create the folder {folder} ({error.strerror})") from error
        self._folder = followed(folder)
        self._reserved = reserved
        self._numbers: dict[Path, int] = {}  # the next to try, for names met before: many folders may share one

    @contextlib.contextmanager
    def named(self, source: Path, suffix: str) -> Iterator[Path]:
        """Yield an unused name: that of the source, with another suffix and, if necessary, a number.

        No other run uses the name inside the ``with`` block, which must write the file.

        Raises:
            OutputError: Nothing can be written into the folder.
        """
        stem = source.stem
        while len(os.fsencode(stem)) > MAX_STEM_BYTES:
            stem = stem[:-1]
        first = self._folder / f"{stem}{suffix}"
        number = self._numbers.get(first, 1)
        while True:
            number = free_number(first, taken=self._reserved, start=number)
            path = numbered(first, number)
            with _claimed(path) as is_ours:
                if is_ours:
                    if number > 1:
                        self._numbers[first] = number + 1
                    yield path
                    return
            number += 1


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Claim a name by an empty file next to it; yield False if another run has claimed or used it first."""
    claim = path.with_name(f"{TEMP_PREFIX}{path.name}.claim")
    try:
        claim.touch(exist_ok=False)
    except FileExistsError:
        yield False
        return
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror})") from error
    try:
        yield not os.path.lexists(path)
    finally:
        claim.unlink(missing_ok=True)


def check_folder(option: str, folder: Path, inputs: Sequence[Path]) -> None:
    """Raise InputError if `folder` is ``-``, or in an input folder, where the next run would read the new pictures."""
    check_no_dash(option, folder)
    for place in inputs:
        if is_folder(place) and followed(folder).is_relative_to(followed(place)):
            raise InputError(
                f"{option} {folder} is inside the input {place}, where the next run would read the new pictures; "
                "pass a folder outside it"
            )
