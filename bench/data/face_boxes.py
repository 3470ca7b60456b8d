"""Reader of pictures with boxed faces, for training and evaluating detectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...runtime.errors import InputError
from ...runtime.pictures.folders import pictures_in
from ...runtime.values import FloatArray
from ...runtime.vision.geometry import box_from_bounds, intersection_over_union, landmark_bounds
from .label_files import check_files, numbers, of_pictures, picture_path, read_rows
from .label_rows import select_rows
from .landmark_labels import LABELS, UNDER_A_MASK, LandmarkTable, has_landmarks, read_landmarks, rows_by_file
from .picture_size import read_size
from .splits import HELD_OUT, HELD_OUT_PICTURES, held_out, in_test_split

BOXES = "boxes.csv"
OTHER_BOXES = "boxes_yunet.csv"


@dataclass(frozen=True, slots=True)
class FaceTable:
    """Boxed faces, one row per picture.

    Attributes:
        files: Paths (n,).
        groups: Group (n,) of each picture; a split never divides one.
        boxes: Boxes (k, 4) xyxy px of each of the n pictures; k may be 0.
        lower_faces: Outline (j, 2) px of the area that a mask would cover on each picture's first face; empty if
            unknown.
    """

    files: tuple[Path, ...]
    groups: tuple[str, ...]
    boxes: tuple[FloatArray, ...]
    lower_faces: tuple[FloatArray, ...]

    def __len__(self) -> int:
        return len(self.files)

    def mask(self, keep: npt.NDArray[np.bool_]) -> FaceTable:
        """Select rows by a boolean mask."""
        return select_rows(self, keep)

    @staticmethod
    def concat(tables: list[FaceTable]) -> FaceTable:
        """Stack several tables."""
        return FaceTable(
            files=tuple(f for t in tables for f in t.files),
            groups=tuple(g for t in tables for g in t.groups),
            boxes=tuple(b for t in tables for b in t.boxes),
            lower_faces=tuple(o for t in tables for o in t.lower_faces),
        )


def has_boxes(folder: Path) -> bool:
    """Return whether a folder has boxed faces; `read_faces` also derives boxes from landmarks."""
    return (folder / BOXES).is_file()


def read_faces(folder: Path) -> FaceTable:
    """Read the boxed faces of a folder.

    Args:
        folder: Folder with ``boxes.csv`` next to ``images/``, with labelled landmarks, or with pictures without faces.

    Raises:
        InputError: There is neither a label file nor a picture, or a row is malformed.
    """
    if has_boxes(folder):
        return _read_boxed(folder)
    if has_landmarks(folder):
        return landmarked_faces(read_landmarks(folder), folder)
    files = pictures_in(folder, required=False)
    if not files:
        raise InputError(f"{folder} contains no {BOXES}, no {LABELS} and no pictures")
    return _table(files, [f.name for f in files], [np.empty((0, 4)) for _ in files])


def landmarked_faces(table: LandmarkTable, folder: Path) -> FaceTable:
    """Return the pictures of a landmark table with the boxes of its faces and those of ``boxes_yunet.csv``.

    Args:
        table: Labels of the folder.
        folder: The folder.

    Raises:
        InputError: A row of ``boxes_yunet.csv`` is malformed.
    """
    rows_of = rows_by_file(table.files)
    labelled = box_from_bounds(landmark_bounds(table.points))
    path = folder / OTHER_BOXES
    others = of_pictures(_read_xywh(path), list(rows_of), path) if path.is_file() else {}
    boxes = []
    for file, rows in rows_of.items():
        found = np.array(others.get(file, [])).reshape(-1, 4)
        is_labelled = (intersection_over_union(found, labelled[rows]) >= 0.3).any(axis=1)
        boxes.append(np.concatenate([labelled[rows], found[~is_labelled]]))
    first = [rows[0] for rows in rows_of.values()]
    subjects = tuple(table.subjects[row] for row in first)
    return FaceTable(tuple(rows_of), subjects, tuple(boxes), tuple(table.points[first][:, UNDER_A_MASK]))


def held_out_pictures(folder: Path, table: FaceTable) -> npt.NDArray[np.bool_]:
    """Mark the rows (n,) held out from training: a fifth of boxed pictures, else the same people as for landmarks."""
    return held_out(table.groups, _fraction(folder))


def pictures_in_test_split(folder: Path, table: FaceTable) -> npt.NDArray[np.bool_]:
    """Mark those of the held-out rows (n,) that no epoch is chosen on."""
    return in_test_split(table.groups, _fraction(folder))


def _fraction(folder: Path) -> float:
    return HELD_OUT_PICTURES if has_boxes(folder) else HELD_OUT


def _read_boxed(folder: Path) -> FaceTable:
    rows: dict[Path, list[list[float]]] = {}
    for name, of_name in _read_xywh(folder / BOXES).items():
        rows.setdefault(picture_path(folder, name), []).extend(of_name)
    if not rows:
        raise InputError(f"{folder / BOXES} has no rows")
    files, boxes = list(rows), [np.array(of_file) for of_file in rows.values()]
    check_files(files)
    for file, of_file in zip(files, boxes, strict=True):
        _check_inside(file, of_file, folder / BOXES)
    # Pictures without a row are labelled too: they contain no face.
    labelled = set(files)
    rest = [p for p in pictures_in(folder / "images", required=False) if p not in labelled]
    empty = [np.empty((0, 4)) for _ in rest]
    return _table(files + rest, [f.name for f in files + rest], [*boxes, *empty])


def _check_inside(file: Path, boxes: FloatArray, labels: Path) -> None:
    """Reject boxes that lie wholly outside their picture, as happens if it was resized or turned after labelling."""
    size = read_size(file)
    if size is None:
        return
    outside = (boxes[:, 2:] <= 0).any(axis=1) | (boxes[:, :2] >= np.array(size.upright)).any(axis=1)
    if outside.any():
        x0, y0, x1, y1 = boxes[outside][0]
        raise InputError(
            f"{labels}: the box {x0:g},{y0:g},{x1 - x0:g},{y1 - y0:g} of {file.name} lies outside the picture, which "
            f"has {size.upright[0]} × {size.upright[1]} px"
        )


def _table(files: list[Path], groups: list[str], boxes: list[FloatArray]) -> FaceTable:
    return FaceTable(tuple(files), tuple(groups), tuple(boxes), tuple(np.empty((0, 2)) for _ in files))


def _read_xywh(path: Path) -> dict[str, list[list[float]]]:
    """Read the boxes xyxy of each picture."""
    rows: dict[str, list[list[float]]] = {}
    for where, row in read_rows(path, ["file", "x", "y", "w", "h"]):
        x, y, w, h = numbers(where, row, ["x", "y", "w", "h"])
        if w <= 0 or h <= 0:
            raise InputError(f"{where}: expected a box with positive width and height, found {w} × {h} px")
        rows.setdefault(row["file"], []).append([x, y, x + w, y + h])
    return rows
