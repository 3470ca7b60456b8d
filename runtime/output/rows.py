"""Results as rows: JSON lines and CSV."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from mien.runtime.errors import OutputError
from mien.runtime.files import check_writable
from mien.runtime.values import POINTS, Faces, FloatArray, Frame, Image, size_of
from mien.runtime.vision.head_pose import head_pose

CSV_HEADER = (
    *(
        "frame",
        "timestamp_ns",
        "track_id",
        "box_x1",
        "box_y1",
        "box_x2",
        "box_y2",
        "score",
        "presence",
        "age",
        "female",
    ),
    *("yaw", "pitch", "roll"),
    *(f"{axis}{i}" for i in range(POINTS) for axis in "xyz"),
)


def row_line(row: dict[str, Any]) -> str:
    """A row as a line of JSON."""
    return json.dumps(row) + "\n"


class RowFile:
    """JSON rows, each whole before the next; ``-`` is standard output. An existing file is kept until the first row."""

    def __init__(self, target: str) -> None:
        self._path = None if target == "-" else Path(target)
        if self._path is not None:
            check_writable(self._path)
        self._handle: IO[str] | None = None if self._path is not None else sys.stdout

    def write(self, row: dict[str, Any]) -> bool:
        """Append one row; False when the reader of standard output has had enough."""
        try:
            if self._handle is None:
                assert self._path is not None
                self._handle = self._path.open("w", encoding="utf-8")
            self._handle.write(row_line(row))
            self._handle.flush()
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123 - or Python complains once more when it exits
            return False
        except OSError as error:
            raise OutputError(f"cannot write the JSON rows ({error.strerror})") from error
        return True

    def close(self) -> None:
        """Close the file."""
        if self._path is not None and self._handle is not None:
            # What could not be written was told by `write`.
            with contextlib.suppress(OSError):
                self._handle.close()


class JsonLinesSink:
    """A row a frame."""

    wants_picture = False

    def __init__(self, target: str) -> None:
        self._rows = RowFile(target)

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Append one row."""
        return self._rows.write(frame_row(frame, faces))

    def close(self) -> None:
        """Close the file."""
        self._rows.close()


class CsvSink:
    """A line a face: frame, timestamp, track, box, score, presence, age, female, pose in degrees, 68 points in px."""

    wants_picture = False

    def __init__(self, path: Path) -> None:
        check_writable(path)
        self._path = path
        self._handle = path.open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._handle)
        self._write(CSV_HEADER)

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Append the faces of a frame."""
        for row in face_rows(faces, size_of(frame.pixels)):
            pose = row["pose"] or {}
            points = [v for point in row["landmarks"] or [] for v in point]
            head = [
                frame.index,
                frame.timestamp_ns,
                row.get("track_id"),
                *row["box"],
                row["score"],
                row["presence"],
                row["age"],
                row["female"],
            ]
            self._write([*head, pose.get("yaw"), pose.get("pitch"), pose.get("roll"), *points])
        return True

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # told by `write`
            self._handle.close()

    def _write(self, row: Sequence[object]) -> None:
        try:
            self._rows.writerow(row)
            self._handle.flush()
        except OSError as error:
            raise OutputError(f"cannot write {self._path} ({error.strerror})") from error


def frame_row(frame: Frame, faces: Faces) -> dict[str, Any]:
    """The row of a frame of a video: ``{"frame", "timestamp_ns", "faces"}``."""
    rows = face_rows(faces, size_of(frame.pixels))
    return {"frame": frame.index, "timestamp_ns": frame.timestamp_ns, "faces": rows}


def face_rows(faces: Faces, size_px: tuple[int, int]) -> list[dict[str, Any]]:
    """One dict a face of a picture of size (width, height), in the order of `faces`."""
    return [_row(faces, i, size_px) for i in range(len(faces))]


def _row(faces: Faces, i: int, size_px: tuple[int, int]) -> dict[str, Any]:
    pose = head_pose(faces.landmarks[i], size_px)
    row: dict[str, Any] = {
        "box": _rounded(faces.boxes[i], 2),
        "score": _number(faces.scores[i], 4),
        "landmarks": _rounded(faces.landmarks[i], 2) if np.isfinite(faces.landmarks[i]).all() else None,
        "presence": _number(faces.presence[i], 4),
        "age": _number(faces.age[i], 1),
        "female": _number(faces.female[i], 4),
        "pose": {name: round(value, 1) for name, value in asdict(pose).items()} if pose is not None else None,
    }
    if faces.track_id[i] >= 0:
        row["track_id"] = int(faces.track_id[i])
    return row


def _number(value: float, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


def _rounded(values: FloatArray, digits: int) -> list[Any]:
    rounded: list[Any] = np.round(values.astype(np.float64), digits).tolist()
    return rounded
