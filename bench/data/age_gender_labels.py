"""Table of face crops labelled with age and gender, and its split into training and validation."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.errors import InputError
from ...runtime.pictures.images import read_file, read_image
from ...runtime.values import FloatArray
from ...runtime.wording import counted
from .age_gender_rows import read_faces_with_age
from .label_files import check_files
from .label_rows import select_rows
from .splits import held_out, held_out_from_training, in_test_split

log = logging.getLogger("mien")


@dataclass(frozen=True, slots=True)
class AgeGenderTable:
    """Labels, one row per picture.

    Attributes:
        files: Paths (n,).
        groups: Group (n,) of each picture. Near-duplicates share a group, and a split never divides one.
        age: Ages (n,) in years.
        female: 1 for female, 0 for male (n,).
        given_split: Whether the data set itself holds out each row (n,); None if it defines no split.
    """

    files: tuple[Path, ...]
    groups: tuple[str, ...]
    age: FloatArray
    female: FloatArray
    given_split: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def mask(self, keep: npt.NDArray[Any]) -> AgeGenderTable:
        """Return the rows selected by a boolean mask (n,)."""
        return select_rows(self, keep)

    def held_out(self) -> npt.NDArray[np.bool_]:
        """Mark the rows (n,) held out from training: by the data set itself, or else a tenth of the groups."""
        return held_out(self.groups) if self.given_split is None else self.given_split

    def in_test_split(self) -> npt.NDArray[np.bool_]:
        """Mark those of the held-out rows (n,) that no epoch is chosen on; none if the data set has its own split."""
        return in_test_split(self.groups) if self.given_split is None else np.zeros(len(self), dtype=bool)


def read_age_gender(folder: Path) -> AgeGenderTable:
    """Read the labels of aligned face crops.

    Args:
        folder: Folder with ``labels.csv`` (file, age, gender and, optionally, group) next to ``images/``, with
            FairFace's label files next to ``train/`` and ``val/``, or with pictures named as in UTKFace.

    Raises:
        InputError: There are no labels, a row is malformed, an age is outside 0 to 120, a gender is neither male nor
            female, or a picture is listed twice or missing.
    """
    faces = read_faces_with_age(folder)
    if not faces:
        raise InputError(f"{folder}: the label file has no rows")
    first_at: dict[Path, str] = {}
    for face in faces:
        if face.file in first_at:
            raise InputError(f"{face.where}: {face.file.name} is already listed in {first_at[face.file]}")
        first_at[face.file] = face.where
    check_files(list(first_at))
    given = [face.held_out for face in faces]
    return AgeGenderTable(
        files=tuple(face.file for face in faces),
        groups=tuple(face.group for face in faces),
        age=np.array([face.age for face in faces]),
        female=np.array([face.female for face in faces]),
        given_split=None if None in given else np.array(given, dtype=bool),
    )


def check_pictures(table: AgeGenderTable) -> None:
    """Read every picture once.

    Raises:
        InputError: A picture cannot be read; the message names it.
    """
    for file in table.files:
        read_image(file)


def join_copies(table: AgeGenderTable) -> AgeGenderTable:
    """Merge the groups of byte-identical pictures, so that a later split does not leak.

    If the data set defines the split, training pictures in a held-out group are dropped.
    """
    merged: dict[str, str] = {}
    group_of: dict[bytes, str] = {}

    def final(group: str) -> str:
        while group in merged:
            group = merged[group]
        return group

    for file, own in zip(table.files, table.groups, strict=True):
        digest = hashlib.sha256(read_file(file)).digest()
        first, second = final(group_of.setdefault(digest, own)), final(own)
        if first != second:
            merged[second] = first
    if merged:
        log.warning("merged the groups of %s with a copy in another group", counted(len(merged), "picture"))
    groups = tuple(map(final, table.groups))
    table = replace(table, groups=groups)
    if table.given_split is None:
        return table
    evaluated = {group for group, held in zip(groups, table.given_split, strict=True) if held}
    keep = table.given_split | np.array([group not in evaluated for group in groups])
    if not keep.all():
        left_out = counted(int((~keep).sum()), "training picture")
        log.warning("left out %s with a near-duplicate among the validation pictures", left_out)
    return table.mask(keep)


def check_split(table: AgeGenderTable, folder: Path) -> npt.NDArray[np.bool_]:
    """Mark the rows (n,) held out from training, and check that both sides are usable.

    Args:
        table: The labels.
        folder: Their folder, for the error message.

    Raises:
        InputError: A side is empty, or contains one gender only.
    """
    held = held_out_from_training(table.groups, folder, noun="group", given=table.given_split)
    for side, rows in (("training", ~held), ("held-out", held)):
        if len(np.unique(table.female[rows])) < 2:
            raise InputError(f"{folder}: the {side} split has one gender only; both are needed")
    return held
