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
from ...runtime.pictures.folders import pictures_in
from ...runtime.pictures.images import read_file
from ...runtime.wording import counted
from .class_layout import find_class_folders
from .label_rows import select_rows
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
        given_split: Whether the data set itself holds out each row (n,); None if it defines no split.
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: npt.NDArray[np.int64]
    digests: tuple[str, ...]
    given_split: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def mask(self, keep: npt.NDArray[Any]) -> ClassTable:
        """Select rows by a boolean mask."""
        return select_rows(self, keep, whole=("classes",))

    def held_out(self) -> npt.NDArray[np.bool_]:
        """Mark the rows (n,) held out from training: by the data set itself, or else a fifth of each class."""
        if self.given_split is not None:
            return self.given_split
        names = [f"{file.parent.name}/{file.name}" for file in self.files]
        marks = np.zeros(len(self), dtype=bool)
        for label in range(len(self.classes)):
            rows = np.flatnonzero(self.labels == label)
            marks[rows] = held_out([names[i] for i in rows], HELD_OUT_PICTURES)
        return marks


def read_classes(folder: Path) -> ClassTable:
    """Read ``folder/CLASS/picture``, or ``folder/PART/CLASS/picture`` with a training and a validation part.

    Of byte-identical pictures only the first is kept, with a warning; if they are in both parts, the validation one.
    Hidden files and pictures outside the class folders are skipped.

    Args:
        folder: Folder with one subfolder per class, or one per part with subfolders per class.

    Raises:
        InputError: There are no class folders (see `find_class_folders`), a class has too few pictures, or two classes
            share a picture.
    """
    parts = find_class_folders(folder)
    rows: dict[str, tuple[Path, int, bool | None]] = {}
    copies = loose = 0
    for part in sorted(parts, key=lambda part: not part.held_out):
        counts = dict.fromkeys(part.classes, 0)
        for file in pictures_in(part.folder, required=False):
            name, *inner = file.relative_to(part.folder).parts
            if name not in counts or not inner or any(word.startswith(".") for word in inner):
                loose += 1
                continue
            row = (file, part.classes.index(name), part.held_out)
            first, label, _ = rows.setdefault(hashlib.sha256(read_file(file)).hexdigest(), row)
            if label != row[1]:
                raise InputError(f"{file} and {first} are the same picture in two classes; remove one of them")
            copies += first != file
            counts[name] += first == file
        least, words = (2, "two") if part.held_out is None else (1, "one")
        for name, count in counts.items():
            if count < least:
                raise InputError(
                    f"{part.folder / name} contains {counted(count, 'picture')}; a class needs at least {words}"
                )
    if copies:
        log.warning("%s: left out %s of other pictures", folder, counted(copies, "copy", "copies"))
    if loose:
        log.warning("%s: left out %s, hidden or outside the class folders", folder, counted(loose, "picture"))
    held = [of_part for _, _, of_part in rows.values()]
    return ClassTable(
        classes=parts[0].classes,
        files=tuple(file for file, _, _ in rows.values()),
        labels=np.array([label for _, label, _ in rows.values()], dtype=np.int64),
        digests=tuple(rows),
        given_split=None if None in held else np.array(held, dtype=bool),
    )
