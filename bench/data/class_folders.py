"""Reader of pictures sorted into one subfolder per class."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.errors import InputError
from ...runtime.file_kinds import is_folder
from ...runtime.folders import is_system_name, pictures_in
from ...runtime.images import read_file
from .splits import HELD_OUT_PICTURES, held_out

log = logging.getLogger("mien")


@dataclass(frozen=True, slots=True)
class ClassTable:
    """Labels, one row per picture.

    Attributes:
        classes: Names of the classes.
        files: Paths (n,).
        labels: Indices (n,) into `classes`.
        digests: SHA-256 (n,) of each picture's file.
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: npt.NDArray[np.int64]
    digests: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def mask(self, keep: npt.NDArray[Any]) -> ClassTable:
        """Select rows by a boolean mask."""
        rows = np.arange(len(self))[keep]
        return ClassTable(
            classes=self.classes,
            files=tuple(self.files[i] for i in rows),
            labels=self.labels[rows],
            digests=tuple(self.digests[i] for i in rows),
        )

    def validation(self) -> npt.NDArray[np.bool_]:
        """Mark the rows (n,) of the validation split: a fifth of each class."""
        names = [f"{file.parent.name}/{file.name}" for file in self.files]
        marks = np.zeros(len(self), dtype=bool)
        for label in range(len(self.classes)):
            rows = np.flatnonzero(self.labels == label)
            marks[rows] = held_out([names[i] for i in rows], HELD_OUT_PICTURES)
        return marks


def read_classes(folder: Path) -> ClassTable:
    """Read ``folder/CLASS/picture``. Of byte-identical pictures only the first is kept, with a warning.

    Args:
        folder: Folder with one subfolder per class.

    Raises:
        InputError: No such folder, fewer than two classes, a class with fewer than two pictures, or the same picture
            in two classes.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    folders = [p for p in folder.iterdir() if is_folder(p) and not p.name.startswith(".")]
    names = sorted(p.name for p in folders if not is_system_name(p.name))
    if len(names) < 2:
        raise InputError(f"{folder}: wanted two or more subfolders, one per class; found {names or 'none'}")
    files: list[Path] = []
    labels: list[int] = []
    digests: list[str] = []
    first_seen: dict[str, tuple[Path, int]] = {}
    duplicates = 0
    for label, name in enumerate(names):
        before = len(files)
        for file in pictures_in(folder / name, required=False):
            digest = hashlib.sha256(read_file(file)).hexdigest()
            first, other = first_seen.setdefault(digest, (file, label))
            if other != label:
                raise InputError(f"{file} and {first} are the same picture in two classes")
            if first != file:
                duplicates += 1
                continue
            files.append(file)
            labels.append(label)
            digests.append(digest)
        if len(files) - before < 2:
            raise InputError(f"{folder / name} contains {len(files) - before} picture(s); a class needs at least two")
    if duplicates:
        log.warning("%s: %d pictures are copies of others and were left out", folder, duplicates)
    return ClassTable(tuple(names), tuple(files), np.array(labels, dtype=np.int64), tuple(digests))
