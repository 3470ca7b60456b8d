"""`Faces` as JSON that others build on: stable keys, px and years, null for what is unknown."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from .head_pose import head_pose
from .values import Faces, FloatArray, Frame, size_of


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
