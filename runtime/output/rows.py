"""Converts results to rows, and writes them as JSON lines or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic_file import LineFile
from ..errors import OutputError
from ..streams import write_output
from ..values import POINTS, Classes, Faces, FloatArray, Frame, Image, size_of
from ..vision.head_pose import head_pose

BOX_COLUMNS = ("box_x1", "box_y1", "box_x2", "box_y2")
POINT_COLUMNS = tuple(f"{axis}{i}" for i in range(POINTS) for axis in "xyz")
CSV_COLUMNS = (
    *("image", "frame", "timestamp_ns", "track_id"),
    *(*BOX_COLUMNS, "score", "presence", "age", "age_std", "female", "class", "class_probability"),
    *("yaw", "pitch", "roll", *POINT_COLUMNS),
)


def frame_row(frame: Frame, faces: Faces) -> dict[str, Any]:
    """Build the row of a video frame: ``{"frame", "timestamp_ns", "faces"}``, or with classes instead of faces."""
    return {"frame": frame.index, "timestamp_ns": frame.timestamp_ns} | found_row(frame.pixels, faces, frame.classes)


def found_row(pixels: Image, faces: Faces, classes: Classes | None) -> dict[str, Any]:
    """Build the part of a row with the results for a picture: ``faces``, or ``class`` and ``classes``."""
    return {"faces": face_rows(faces, size_of(pixels))} if classes is None else class_row(classes)


def class_row(classes: Classes) -> dict[str, Any]:
    """Build the part of a row with the most likely class and the probabilities of all classes."""
    rounded = {name: round(probability, 5) for name, probability in classes.items()}
    return {"class": max(rounded, key=lambda name: rounded[name]), "classes": rounded}


def picture_head(name: str, frame: int | None) -> dict[str, Any]:
    """Build the beginning of a picture's row: its name, and the number of the frame if the file has several."""
    return {"image": name} if frame is None else {"image": name, "frame": frame}


def face_rows(faces: Faces, size_px: tuple[int, int]) -> list[dict[str, Any]]:
    """Build one row per face, in the order of `faces`, of a picture of `size_px` (width, height)."""
    return [_face_row(faces, i, size_px) for i in range(len(faces))]


def row_line(row: dict[str, Any]) -> str:
    """Encode a row as a line of JSON."""
    return json.dumps(row) + "\n"


def csv_lines(row: dict[str, Any], *, columns: Sequence[str] = CSV_COLUMNS) -> str:
    """Encode the faces of a row as lines of CSV; unknown values are empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, extrasaction="ignore")
    for face in row["faces"]:
        box = dict(zip(BOX_COLUMNS, face["box"], strict=True))
        points = dict(zip(POINT_COLUMNS, chain.from_iterable(face["landmarks"] or ()), strict=False))
        probability = {"class_probability": face["classes"][face["class"]]} if "class" in face else {}
        table.writerow(row | face | box | points | (face["pose"] or {}) | probability)
    return text.getvalue()


class RowFile:
    """Text file with the lines of each row, which appears when it is closed; see `LineFile`.

    Args:
        target: Path, or ``-`` for standard output.
        encode: Returns the lines of a row.
        header: First line.
        live: Keep the rows before a failed write.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(
        self,
        target: str,
        encode: Callable[[dict[str, Any]], str] = row_line,
        *,
        header: str = "",
        live: bool = False,
    ) -> None:
        self._file = None if target == "-" else LineFile(Path(target), keep=live)
        self._name = "standard output" if target == "-" else target
        self._encode = encode
        self._header = header

    def write(self, row: dict[str, Any]) -> bool:
        """Append one row; return False if the reader of a pipe is gone.

        Raises:
            OutputError: The row cannot be written.
        """
        lines, self._header = self._header + self._encode(row), ""
        try:
            if self._file is None:
                write_output(lines)
            else:
                self._file.write(lines)
        except BrokenPipeError:
            return False
        except OSError as error:
            raise OutputError(f"cannot write {self._name} ({error.strerror})") from error
        return True

    def close(self) -> None:
        """Finish the file.

        Raises:
            OutputError: The file cannot be moved to its path.
        """
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError as error:
            raise OutputError(f"cannot write {self._name} ({error.strerror})") from error

    def discard(self) -> None:
        """Leave what was there before."""
        if self._file is not None:
            self._file.discard()


def csv_file(path: Path, *, pictures: bool = False, live: bool = False) -> RowFile:
    """Open a CSV file with one line per face.

    Args:
        path: File to write.
        pictures: Whether the first column names the picture of each face.
        live: Keep the lines before a failed write.

    Raises:
        OutputError: The file cannot be written.
    """
    columns = CSV_COLUMNS if pictures else CSV_COLUMNS[1:]
    return RowFile(str(path), partial(csv_lines, columns=columns), header=",".join(columns) + "\r\n", live=live)


class RowSink:
    """Sink that writes the row of each frame."""

    needs_picture = False

    def __init__(self, file: RowFile) -> None:
        self._file = file

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Append the row of a frame."""
        return self._file.write(frame_row(frame, faces))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def _face_row(faces: Faces, i: int, size_px: tuple[int, int]) -> dict[str, Any]:
    pose = head_pose(faces.landmarks[i], size_px)
    row: dict[str, Any] = {
        "box": _rounded(faces.boxes[i], 2),
        "score": _number(faces.scores[i], 4),
        "landmarks": _rounded(faces.landmarks[i], 2) if np.isfinite(faces.landmarks[i]).all() else None,
        "presence": _number(faces.presence[i], 4),
        "age": _number(faces.age[i], 1),
        "age_std": _number(faces.age_std[i], 1),
        "female": _number(faces.female[i], 4),
        "pose": {name: round(value, 1) for name, value in asdict(pose).items()} if pose is not None else None,
    }
    if faces.track_id[i] >= 0:
        row["track_id"] = int(faces.track_id[i])
    return row | class_row(faces.classes[i]) if faces.classes[i] else row


def _number(value: float, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


def _rounded(values: FloatArray, digits: int) -> list[Any]:
    rounded: list[Any] = np.round(values.astype(np.float64), digits).tolist()
    return rounded
