"""Reader of faces with 68 labelled points, in mien's folder layout or in that of the seed set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.errors import InputError, warn_once
from ...runtime.values import POINTS, FloatArray
from ...runtime.wording import counted
from .label_files import check_files, numbers, of_pictures, picture_path, read_rows
from .label_rows import select_rows
from .picture_size import read_size
from .splits import held_out, in_test_split

LABELS = "landmarks.csv"
DEPTHS = "landmarks3d_pseudo.csv"
SEED_LABELS = "training_frames_keypoints.csv"
SIZE = ("width", "height")
"""Optional columns with the size in px of the picture that was labelled."""
EYES = (36, 45)
"""Outer eye corners, whose distance is the unit of errors."""
LEAST_SPAN_PX = 1.0
"""Minimum width, height and eye distance of a face's points."""

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
"""Index that each of the 68 points gets when the picture is mirrored."""

UNDER_A_MASK = [*range(1, 16), 28]
"""Points that outline the area covered by a mask: the jaw from ear to ear, and the bridge of the nose."""


@dataclass(frozen=True, slots=True)
class LandmarkTable:
    """Labels, one row per face.

    Attributes:
        files: Paths (n,).
        sources: Name (n,) of the data set that each face comes from.
        subjects: Person (n,) whose face it is, or people who share a picture; a split never divides one.
        points: Points (n, 68, 2) in image px.
        depth: Depth (n, 68) in px, increasing away from the camera; NaN where unknown.
        sizes: Width and height (n, 2) in px of the picture that was labelled; NaN where unknown.
    """

    files: tuple[Path, ...]
    sources: tuple[str, ...]
    subjects: tuple[str, ...]
    points: FloatArray
    depth: FloatArray
    sizes: FloatArray

    def __len__(self) -> int:
        return len(self.files)

    def mask(self, keep: npt.NDArray[Any]) -> LandmarkTable:
        """Select rows by a boolean mask or by indices."""
        return select_rows(self, keep)

    def held_out(self) -> npt.NDArray[np.bool_]:
        """Mark the rows (n,) of the validation and the test split."""
        return held_out(self.subjects)

    def in_test_split(self) -> npt.NDArray[np.bool_]:
        """Mark those of the held-out rows (n,) that no epoch is chosen on."""
        return in_test_split(self.subjects)


def has_landmarks(folder: Path) -> bool:
    """Return whether a folder has a label file for `read_landmarks`."""
    return (folder / LABELS).is_file() or (folder / SEED_LABELS).is_file()


def read_landmarks(folder: Path) -> LandmarkTable:
    """Read ``landmarks.csv`` next to ``images/``, or ``training_frames_keypoints.csv`` next to ``training/``.

    Rows whose points cannot be a face's are dropped, with a warning. If ``landmarks.csv`` gives the size of a picture,
    it decides whether the points refer to the picture as stored or as turned by EXIF.

    Args:
        folder: Folder with either file.

    Raises:
        InputError: Neither file exists, there are no rows, a row is malformed, or a picture is missing or has another
            size.
    """
    if (folder / LABELS).is_file():
        table = _read_ours(folder)
    elif (folder / SEED_LABELS).is_file():
        table = _read_seed(folder)
    else:
        raise InputError(f"{folder} contains neither {LABELS} nor {SEED_LABELS}")
    if len(table) == 0:
        raise InputError(f"{folder}: the label file has no rows")
    check_files(table.files)
    table = replace(table, subjects=_joined(table.files, table.subjects))
    return _upright(_with_faces(table, folder), folder)


def rows_by_file(files: Sequence[Path]) -> dict[Path, list[int]]:
    """Return the rows of each picture, of which several have more than one face."""
    rows: dict[Path, list[int]] = {}
    for row, file in enumerate(files):
        rows.setdefault(file, []).append(row)
    return rows


def _joined(files: Sequence[Path], subjects: Sequence[str]) -> tuple[str, ...]:
    """Join the subjects that share a picture, directly or through others, under the first of their names."""
    parent = {subject: subject for subject in subjects}

    def root(subject: str) -> str:
        while parent[subject] != subject:
            parent[subject] = parent[parent[subject]]
            subject = parent[subject]
        return subject

    for rows in rows_by_file(files).values():
        for row in rows[1:]:
            first, second = sorted((root(subjects[rows[0]]), root(subjects[row])))
            parent[second] = first
    return tuple(root(subject) for subject in subjects)


def _with_faces(table: LandmarkTable, folder: Path) -> LandmarkTable:
    """Drop rows whose points cannot be a face's: all zero, for instance, or fractions of the picture instead of px."""
    eyes = np.linalg.norm(table.points[:, EYES[0]] - table.points[:, EYES[1]], axis=1)
    keep = (np.ptp(table.points, axis=1).min(axis=1) >= LEAST_SPAN_PX) & (eyes >= LEAST_SPAN_PX)
    if not keep.any():
        raise InputError(
            f"{folder}: the points of every row lie within {LEAST_SPAN_PX:g} px; expected px of the picture"
        )
    if not keep.all():
        names = [table.files[i].name for i in np.flatnonzero(~keep)]
        warn_once(
            f"{folder}: left out {counted(len(names), 'row')} whose points lie within {LEAST_SPAN_PX:g} px of each "
            f"other: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
        )
    return table.mask(keep)


def _upright(table: LandmarkTable, folder: Path) -> LandmarkTable:
    """Map points that refer to pictures as stored to the pictures as turned by EXIF.

    The width and height in the label file tell the two apart.
    """
    points, depth = table.points.copy(), table.depth.copy()
    turned = 0
    for i in np.flatnonzero(np.isfinite(table.sizes).all(axis=1)):
        header = read_size(table.files[i])
        labelled = tuple(table.sizes[i])
        if header is None or labelled == header.upright:
            continue
        if labelled != header.stored:
            raise InputError(
                f"{folder}: the labels of {table.files[i].name} are for a picture of {labelled[0]:g} × {labelled[1]:g} "
                f"px, but it has {header.upright[0]} × {header.upright[1]} px; label it again, or restore the picture"
            )
        turned += 1
        points[i] = header.turn(points[i])
        if header.is_mirrored:
            points[i], depth[i] = points[i][MIRRORED], depth[i][MIRRORED]
    if turned:
        warn_once(f"{folder}: turned the points of {counted(turned, 'picture')} labelled as stored, according to EXIF")
    return replace(table, points=points, depth=depth)


def _read_ours(folder: Path) -> LandmarkTable:
    columns = [f"{axis}{i}" for i in range(POINTS) for axis in "xy"]
    files, sources, subjects, points, sizes = [], [], [], [], []
    for where, row in read_rows(folder / LABELS, ["file", "source", "subject", *columns]):
        files.append(picture_path(folder, row["file"]))
        sources.append(row["source"])
        subjects.append(row["subject"])
        points.append(numbers(where, row, columns))
        sizes.append(numbers(where, row, SIZE) if all(row.get(name) for name in SIZE) else [np.nan, np.nan])
    table = replace(_table(files, sources, subjects, points), sizes=np.array(sizes).reshape(-1, 2))
    if (folder / DEPTHS).is_file():
        return _with_depth(table, folder / DEPTHS)
    return table


def _with_depth(table: LandmarkTable, path: Path) -> LandmarkTable:
    columns = [f"z{i}" for i in range(POINTS)]
    depths: dict[str, list[list[float]]] = {}
    for where, row in read_rows(path, ["file", *columns]):
        depths.setdefault(row["file"], []).append(numbers(where, row, columns))
    depth, rows_of = table.depth.copy(), rows_by_file(table.files)
    for file, of_file in of_pictures(depths, table.files, path).items():
        rows = rows_of[file]
        if len(of_file) == len(rows):  # of several faces, in the order of the labels
            depth[rows] = of_file
        else:
            found = f"{counted(len(of_file), 'row')} here and {counted(len(rows), 'row')} in {LABELS}"
            warn_once(f"{path}: left out {file.name}, which has {found}")
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
        sizes=np.full((n, 2), np.nan),
    )
