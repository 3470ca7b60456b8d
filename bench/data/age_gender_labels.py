"""Reader of aligned face crops labelled with age and gender: ``labels.csv`` beside ``images/``."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.errors import InputError
from ...runtime.images import read_image
from ...runtime.values import FloatArray
from .label_files import numbers, read_rows
from .splits import held_out, training_split

log = logging.getLogger("mien")

LABELS = "labels.csv"
MAX_AGE = 120
GENDERS = {"male": 0.0, "female": 1.0}


@dataclass(frozen=True, slots=True)
class AgeGenderTable:
    """Labels, one row per picture.

    Attributes:
        files: Paths (n,).
        groups: Group (n,) of each picture. Near-duplicates share a group, and a split never divides one.
        age: Ages (n,) in years.
        female: 1 for female, 0 for male (n,).
    """

    files: tuple[Path, ...]
    groups: tuple[str, ...]
    age: FloatArray
    female: FloatArray

    def __len__(self) -> int:
        return len(self.files)

    def mask(self, keep: npt.NDArray[Any]) -> AgeGenderTable:
        """Select rows by a boolean mask."""
        rows = np.arange(len(self))[keep]
        return AgeGenderTable(
            files=tuple(self.files[i] for i in rows),
            groups=tuple(self.groups[i] for i in rows),
            age=self.age[rows],
            female=self.female[rows],
        )

    def validation(self) -> npt.NDArray[np.bool_]:
        """Mark the rows (n,) of the validation split."""
        return held_out(self.groups)


def read_age_gender(folder: Path) -> AgeGenderTable:
    """Read ``labels.csv`` with the columns file, age, gender and, optionally, group.

    Args:
        folder: Folder with ``labels.csv`` and ``images/``.

    Raises:
        InputError: No such file or no rows; a malformed row, an age outside 0 to 120, a gender other than male or
            female, or a picture that is listed twice or missing (each named).
    """
    files: list[Path] = []
    groups, ages, female = [], [], []
    first_at: dict[str, str] = {}
    for where, row in read_rows(folder / LABELS, ["file", "age", "gender"]):
        (age,) = numbers(where, row, ["age"])
        if not 0 <= age <= MAX_AGE:
            raise InputError(f"{where}: wanted an age from 0 to {MAX_AGE} years, found {row['age']}")
        if row["gender"] not in GENDERS:
            raise InputError(f"{where}: wanted gender male or female, found {row['gender']!r}")
        if row["file"] in first_at:
            raise InputError(f"{where}: {row['file']} is already listed in {first_at[row['file']]}")
        first_at[row["file"]] = where
        files.append(folder / "images" / row["file"])
        groups.append(row.get("group") or row["file"])
        ages.append(age)
        female.append(GENDERS[row["gender"]])
    if not files:
        raise InputError(f"{folder / LABELS} has no rows")
    missing = [str(f) for f in files if not f.is_file()]
    if missing:
        raise InputError(f"{len(missing)} labelled image(s) are missing, the first is {missing[0]}")
    return AgeGenderTable(tuple(files), tuple(groups), np.array(ages), np.array(female))


def check_pictures(table: AgeGenderTable) -> None:
    """Read every picture once.

    Raises:
        InputError: A picture cannot be read; the message names it.
    """
    for file in table.files:
        read_image(file)


def join_copies(table: AgeGenderTable) -> AgeGenderTable:
    """Merge the groups of byte-identical pictures. Call it before any split, which would leak otherwise."""
    groups = list(table.groups)
    group_of: dict[bytes, str] = {}
    joined = 0
    for i, file in enumerate(table.files):
        digest = hashlib.sha256(file.read_bytes()).digest()
        group = group_of.setdefault(digest, groups[i])
        old = groups[i]
        if group != old:
            joined += 1
            groups = [group if g == old else g for g in groups]
            group_of = {d: group if g == old else g for d, g in group_of.items()}
    if joined:
        log.warning("%d pictures are byte-identical to pictures of other groups; those groups were merged", joined)
    return AgeGenderTable(table.files, tuple(groups), table.age, table.female)


def check_split(table: AgeGenderTable, folder: Path) -> npt.NDArray[np.bool_]:
    """Mark the rows (n,) of the validation split, and check that both sides can be used.

    Args:
        table: The labels.
        folder: Their folder, for the error message.

    Raises:
        InputError: One side would be empty or contain one gender only.
    """
    validation = training_split(table.groups, folder, noun="group")
    for side, rows in (("training", ~validation), ("validation", validation)):
        if len(np.unique(table.female[rows])) < 2:
            raise InputError(f"{folder}: the {side} split has one gender only; both are needed")
    return validation
