"""Rows of age and gender labels: in the project's label file, in FairFace's, and in the file names of UTKFace."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...runtime.errors import InputError, warn_once
from ...runtime.pictures.folders import is_picture, pictures_in, walk
from ...runtime.wording import counted
from .label_files import numbers, picture_path, read_rows

LABELS = "labels.csv"
FAIRFACE = {"fairface_label_train.csv": False, "fairface_label_val.csv": True}
"""FairFace's label files (Karkkainen and Joo, WACV 2021), and whether their rows are held out."""
UTKFACE = re.compile(r"(?P<age>\d{1,3})_(?P<gender>[01])_[0-4]_\d+.*")
"""File names of UTKFace (Zhang et al., CVPR 2017): age, gender (1 is female), race, and date and time."""
MAX_AGE = 120
OLDEST = 75.0
"""Age in years that stands for "more than 70", FairFace's only range without an upper end."""
GENDERS = {"male": 0.0, "female": 1.0}
COLUMNS = ("file", "age", "gender")


@dataclass(frozen=True, slots=True)
class LabelledFace:
    """Labels of one picture.

    Attributes:
        file: The picture.
        where: File and row, for error messages.
        age: Age in years.
        female: 1 for female, 0 for male.
        group: Group of near-duplicates that the picture belongs to.
        held_out: Whether the data set itself holds the picture out; None if it defines no split.
    """

    file: Path
    where: str
    age: float
    female: float
    group: str
    held_out: bool | None = None


def has_ages(folder: Path) -> bool:
    """Return whether a folder has labels for `read_faces_with_age`, such as one picture named as in UTKFace."""
    if any((folder / name).is_file() for name in (LABELS, *FAIRFACE)):
        return True
    return any(_named_file(file) is not None and is_picture(file) for file in walk(folder, [], Counter()))


def read_faces_with_age(folder: Path) -> list[LabelledFace]:
    """Read the labels of a folder: ``labels.csv``, else FairFace's label files, else UTKFace's file names.

    Raises:
        InputError: There are no labels, or a row is malformed.
    """
    fairface = [name for name in FAIRFACE if (folder / name).is_file()]
    if (folder / LABELS).is_file():
        return list(_label_file(folder, folder / LABELS, None))
    if fairface:
        is_split = len(fairface) == len(FAIRFACE)
        sides = {name: FAIRFACE[name] if is_split else None for name in fairface}
        return [face for name, side in sides.items() for face in _label_file(folder, folder / name, side)]
    return _named_files(folder)


def _label_file(folder: Path, path: Path, held_out: bool | None) -> Iterator[LabelledFace]:
    for where, row in read_rows(path, COLUMNS):
        if row["gender"].lower() not in GENDERS:
            raise InputError(f"{where}: expected gender male or female, found {row['gender']!r}")
        yield LabelledFace(
            file=picture_path(folder, row["file"]),
            where=where,
            age=_age(folder, where, row),
            female=GENDERS[row["gender"].lower()],
            group=row.get("group") or row["file"],
            held_out=held_out,
        )


def _age(folder: Path, where: str, row: dict[str, str]) -> float:
    """Return an age in years; for a range such as 20-29, its middle."""
    text = row["age"].lower()
    limits = re.fullmatch(r"(\d+)\s*[-–]\s*(\d+)", text)
    if limits is None and text not in ("more than 70", "70+"):
        (age,) = numbers(where, row, ["age"])
        if not 0 <= age <= MAX_AGE:
            raise InputError(f"{where}: expected an age from 0 to {MAX_AGE} years, found {row['age']}")
        return age
    warn_once(f"{folder}: age ranges count as their middle, 20-29 as 24.5 years and more than 70 as {OLDEST:g}")
    if limits is None:
        return OLDEST
    low, high = (int(limit) for limit in limits.groups())
    if not low <= high <= MAX_AGE:
        raise InputError(f"{where}: expected a range of ages from 0 to {MAX_AGE} years, found {row['age']}")
    return (low + high) / 2


def _named_files(folder: Path) -> list[LabelledFace]:
    files = pictures_in(folder, required=False) if folder.is_dir() else []
    faces = [face for face in map(_named_file, files) if face is not None]
    if not faces:
        raise InputError(
            f"{folder} has no {LABELS}, no {' or '.join(FAIRFACE)}, and no pictures named "
            "age_gender_race_date, as in UTKFace"
        )
    if len(faces) < len(files):
        named = {face.file for face in faces}
        first = next(file.name for file in files if file not in named)
        warn_once(
            f"{folder}: left out {len(files) - len(faces)} of {counted(len(files), 'picture')}, not named "
            f"age_gender_race_date as in UTKFace; the first is {first}"
        )
    return faces


def _named_file(file: Path) -> LabelledFace | None:
    found = UTKFACE.fullmatch(file.name)
    if found is None or int(found["age"]) > MAX_AGE:
        return None
    return LabelledFace(file, str(file), float(found["age"]), float(found["gender"]), group=file.name)
