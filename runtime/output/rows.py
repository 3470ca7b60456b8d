"""Converts results to rows, and writes them as JSON lines or CSV."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError
from ..outputs import LineFile
from ..streams import write_output
from ..values import POINTS, Classes, Faces, FloatArray, Frame, Image, size_of
from ..vision.head_pose import head_pose

CSV_HEADER = (
    *("image", "frame", "timestamp_ns", "track_id"),
    *("box_x1", "box_y1", "box_x2", "box_y2", "score"),
    *("presence", "age", "age_std", "female", "class", "class_probability"),
    *("yaw", "pitch", "roll"),
    *(f"{axis}{i}" for i in range(POINTS) for axis in "xyz"),
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


class RowFile:
    """JSON lines file, which appears when it is closed; see `LineFile`.

    As a context manager, it is discarded after an error, but kept with the rows so far after Ctrl-C.

    Args:
        target: Path, or ``-`` for standard output.
        live: Keep the rows before a failed write.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, target: str, *, live: bool = False) -> None:
        self._file = None if target == "-" else LineFile(Path(target), keep=live)

    def write(self, row: dict[str, Any]) -> bool:
        """Append one row; return False if the reader of a pipe is gone.

        Raises:
            OutputError: The row cannot be written.
        """
        try:
            if self._file is None:
                write_output(row_line(row))
            else:
                self._file.write(row_line(row))
        except BrokenPipeError:
            return False
        except OSError as error:
            raise OutputError(f"cannot write the JSON rows ({error.strerror})") from error
        return True

    def close(self) -> None:
        """Finish the file.

        Raises:
            OutputError: The file cannot be moved to its path.
        """
        if self._file is not None:
            _finish(self._file, "the JSON rows")

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, KeyboardInterrupt):
            self.discard()
        self.close()

    def discard(self) -> None:
        """Leave what was there before."""
        if self._file is not None:
            self._file.discard()


class JsonLinesSink:
    """Sink that writes one JSON row per frame to a `RowFile`."""

    needs_picture = False

    def __init__(self, target: str, *, live: bool = False) -> None:
        self._rows = RowFile(target, live=live)

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Append the row of a frame."""
        return self._rows.write(frame_row(frame, faces))

    def close(self) -> None:
        """Finish the file."""
        self._rows.close()


class CsvFile:
    """CSV file with one line per face and the columns of `CSV_HEADER`, `image` only for pictures; see `LineFile`.

    Args:
        path: File to write.
        pictures: Whether to add a column with the picture of each face.
        live: Keep the lines before a failed write.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, path: Path, *, pictures: bool = False, live: bool = False) -> None:
        self._path = path
        self._columns = slice(0 if pictures else 1, None)
        self._file = LineFile(path, keep=live)
        self._text = io.StringIO()
        self._csv = csv.writer(self._text)
        self._csv.writerow(CSV_HEADER[self._columns])

    def write(self, row: dict[str, Any]) -> bool:
        """Append the faces of a picture or frame; return False if the reader of a pipe is gone."""
        for face in row["faces"]:
            identity = (row.get("image"), row.get("frame"), row.get("timestamp_ns"), face.get("track_id"))
            pose = face["pose"] or dict.fromkeys(("yaw", "pitch", "roll"))
            estimates = [face[name] for name in ("score", "presence", "age", "age_std", "female")]
            estimates += [face["class"], face["classes"][face["class"]]] if "class" in face else [None, None]
            points = (value for point in face["landmarks"] or () for value in point)
            cells = [*identity, *face["box"], *estimates, pose["yaw"], pose["pitch"], pose["roll"], *points]
            self._csv.writerow(cells[self._columns])
        try:
            self._file.write(self._text.getvalue())
        except BrokenPipeError:
            return False
        except OSError as error:
            raise OutputError(f"cannot write {self._path} ({error.strerror})") from error
        self._text.seek(0)
        self._text.truncate()
        return True

    def close(self) -> None:
        """Finish the file."""
        _finish(self._file, str(self._path))

    def discard(self) -> None:
        """Leave what was there before."""
        self._file.discard()


class CsvSink:
    """Sink that writes the faces of each frame to a `CsvFile`."""

    needs_picture = False

    def __init__(self, path: Path, *, live: bool = False) -> None:
        self._lines = CsvFile(path, live=live)

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Append the faces of a frame."""
        return self._lines.write(frame_row(frame, faces))

    def close(self) -> None:
        """Finish the file."""
        self._lines.close()


def _finish(file: LineFile, name: str) -> None:
    try:
        file.close()
    except OSError as error:
        raise OutputError(f"cannot write {name} ({error.strerror})") from error


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
