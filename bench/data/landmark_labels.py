"""Reader of faces with 68 labelled points, in the project's folder layout or in the seed set's own."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.errors import InputError
from ...runtime.values import POINTS, FloatArray
from .label_files import numbers, read_rows
from .splits import held_out

LABELS = "landmarks.csv"
DEPTHS = "landmarks3d_pseudo.csv"
SEED_LABELS = "training_frames_keypoints.csv"

MIRRORED = np.array(
    [
        *range(16, -1, -1),  # jaw
        *range(26, 16, -1),  # brows
        *range(27, 31),  # bridge of the nose
        *range(35, 30, -1),  # nostrils
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),  # eyes
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),  # outer lips
        *(64, 63, 62, 61, 60, 67, 66, 65),  # inner lips
    ]
)
"""Index of the point that each of the 68 points becomes when the picture is mirrored."""

UNDER_A_MASK = [*range(1, 16), 28]
"""Points around the area that a mask covers: the jaw from ear to ear, and the bridge of the nose."""


@dataclass(frozen=True, slots=True)
class LandmarkTable:
    """Labels, one row per face.

    Attributes:
        files: Paths (n,).
        sources: Name (n,) of the data set that each face comes from.
        subjects: Person (n,) in each picture; a split never divides one.
        points: Points (n, 68, 2) in image px.
        depth: Depth (n, 68) in px, increasing away from the camera; NaN where unknown.
    """

    files: tuple[Path, ...]
    sources: tuple[str, ...]
    subjects: tuple[str, ...]
    points: FloatArray
    depth: FloatArray

    def __len__(self) -> int:
        return len(self.files)

    def mask(self, keep: npt.NDArray[Any]) -> LandmarkTable:
        """Select rows by a boolean mask or by indices."""
        rows = np.arange(len(self))[keep]
        return LandmarkTable(
            files=tuple(self.files[i] for i in rows),
            sources=tuple(self.sources[i] for i in rows),
            subjects=tuple(self.subjects[i] for i in rows),
            points=self.points[rows],
            depth=self.depth[rows],
        )

    def validation(self) -> npt.NDArray[np.bool_]:
        """Mark the rows (n,) of the validation split."""
        return held_out(self.subjects)


def read_landmarks(folder: Path) -> LandmarkTable:
    """Read ``landmarks.csv`` beside ``images/``, or ``training_frames_keypoints.csv`` beside ``training/``.

    Args:
        folder: Folder with either file.

    Raises:
        InputError: Neither file, no rows, a malformed row (named), or missing images.
    """
    if (folder / LABELS).is_file():
        table = _read_ours(folder)
    elif (folder / SEED_LABELS).is_file():
        table = _read_seed(folder)
    else:
        raise InputError(f"{folder} contains neither {LABELS} nor {SEED_LABELS}")
    if len(table) == 0:
        raise InputError(f"{folder}: the label file has no rows")
    missing = [str(f) for f in table.files if not f.is_file()]
    if missing:
        raise InputError(f"{len(missing)} labelled image(s) are missing, the first is {missing[0]}")
    return table


def _read_ours(folder: Path) -> LandmarkTable:
    columns = [f"{axis}{i}" for i in range(POINTS) for axis in "xy"]
    files, sources, subjects, points = [], [], [], []
    for where, row in read_rows(folder / LABELS, ["file", "source", "subject", *columns]):
        files.append(folder / "images" / row["file"])
        sources.append(row["source"])
        subjects.append(row["subject"])
        points.append(numbers(where, row, columns))
    table = _table(files, sources, subjects, points)
    if (folder / DEPTHS).is_file():
        return _with_depth(table, folder / DEPTHS)
    return table


def _with_depth(table: LandmarkTable, path: Path) -> LandmarkTable:
    columns = [f"z{i}" for i in range(POINTS)]
    depth = table.depth.copy()
    row_of = {file.name: i for i, file in enumerate(table.files)}
    for where, row in read_rows(path, ["file", *columns]):
        if row["file"] in row_of:
            depth[row_of[row["file"]]] = numbers(where, row, columns)
    return replace(table, depth=depth)


def _read_seed(folder: Path) -> LandmarkTable:
    columns = [str(i) for i in range(2 * POINTS)]
    files, subjects, points = [], [], []
    for where, row in read_rows(folder / SEED_LABELS, columns):
        name = next(iter(row.values()))  # the first column has no header
        files.append(folder / "training" / name)
        subjects.append(re.sub(r"_\d+\.\w+$", "", name))
        points.append(numbers(where, row, columns))
    return _table(files, ["ytf"] * len(files), subjects, points)


def _table(files: list[Path], sources: list[str], subjects: list[str], points: list[list[float]]) -> LandmarkTable:
    n = len(files)
    return LandmarkTable(
        files=tuple(files),
        sources=tuple(sources),
        subjects=tuple(subjects),
        points=np.array(points, dtype=np.float64).reshape(n, POINTS, 2),
        depth=np.full((n, POINTS), np.nan),
    )
