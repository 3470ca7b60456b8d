"""Value types of the whole runtime. Points are in pixels of the original image unless a name ends in `_crop`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import index
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
Image = npt.NDArray[np.uint8]
Classes = Mapping[str, float]
"""Probability of each class by name."""
Progress = Callable[[int, int], None]
"""Progress callback: called with (steps done, steps in total) after each step."""

POINTS = 68
"""Number of landmarks in the ``ibug68`` scheme."""
GREY = (127, 127, 127)
"""Colour around a picture, and behind a transparent one."""


def size_of(pixels: Image) -> tuple[int, int]:
    """Return the (width, height) of a picture (h, w, 3), in the order of OpenCV."""
    return pixels.shape[1], pixels.shape[0]


def percentile(values: Sequence[int] | FloatArray | npt.NDArray[np.int64], percent: int) -> float:
    """Return the nearest-rank percentile: the smallest value that at least `percent` % of the values do not exceed."""
    return float(row_percentiles(np.asarray(values)[None], percent)[0])


def row_percentiles(rows: npt.NDArray[Any], percent: int) -> npt.NDArray[Any]:
    """Return the `percentile` of each row of (m, n) values."""
    rank = -(-percent * rows.shape[1] // 100)  # in integers: 0.99 * 100 is not always 99
    index = max(rank, 1) - 1
    return np.partition(rows, index, axis=1)[:, index]


def object_array(values: Sequence[object]) -> npt.NDArray[np.object_]:
    """Return an object array (n,), even if the values are sequences themselves."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a source.

    Attributes:
        pixels: (h, w, 3) uint8 BGR.
        timestamp_ns: Capture time on a monotonic clock; for files, the time within the file.
        index: Number within the source, from 0, counting dropped frames.
        classes: Classes of the whole picture; None unless it was classified.
    """

    pixels: Image
    timestamp_ns: int
    index: int
    classes: Classes | None = None


class Face(NamedTuple):
    """One of the `Faces` of an image. Unknown values are NaN.

    Attributes:
        box: (4,) xyxy px.
        score: Confidence of the detector.
        landmarks: (68, 3) px; z increases away from the camera.
        presence: Probability that the crop contains a face.
        age: Years.
        age_std: Standard deviation of the age in years.
        female: Probability.
        track_id: Number, -1 if not tracked.
        classes: Probability of each class; None unless the face was classified.
    """

    box: FloatArray
    score: float
    landmarks: FloatArray
    presence: float
    age: float
    age_std: float
    female: float
    track_id: int
    classes: Classes | None


@dataclass(frozen=True, slots=True)
class Faces:
    """All faces of one image, one row per face; iterating or an index yields each `Face`. Unknown values are NaN.

    Attributes:
        boxes: (n, 4) xyxy px.
        scores: (n,) confidence of the detector.
        landmarks: (n, 68, 3) px; z increases away from the camera.
        presence: (n,) probability that the crop contains a face.
        age: (n,) years.
        age_std: (n,) standard deviation of the age in years.
        female: (n,) probability.
        track_id: (n,) int, -1 if not tracked.
        classes: (n,) `Classes` of each face; None unless it was classified.
    """

    boxes: FloatArray
    scores: FloatArray
    landmarks: FloatArray = field(repr=False)
    presence: FloatArray
    age: FloatArray
    age_std: FloatArray
    female: FloatArray
    track_id: npt.NDArray[np.int64]
    classes: npt.NDArray[np.object_]

    def __post_init__(self) -> None:
        n = len(self.boxes)
        for name, row in _ROWS.items():
            if (shape := getattr(self, name).shape) != (n, *row):
                raise ValueError(f"Faces.{name}: expected shape {(n, *row)}, found {shape}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Face]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> Face:
        row = (getattr(self, f.name)[index(number)] for f in fields(self))
        return Face(*(value.item() if isinstance(value, np.generic) else value for value in row))

    def mask(self, keep: npt.NDArray[Any]) -> Faces:
        """Return the rows selected by a boolean mask (n,) or by indices, in the order of the indices."""
        return Faces(**{f.name: getattr(self, f.name)[keep] for f in fields(self)})

    def with_fields(self, **changes: npt.NDArray[Any]) -> Faces:
        """Return a copy with some fields replaced."""
        return replace(self, **changes)

    @staticmethod
    def empty() -> Faces:
        """Return zero faces."""
        return Faces.from_boxes(np.empty((0, 4)), np.empty(0))

    @staticmethod
    def from_boxes(boxes: FloatArray, scores: FloatArray, **known: npt.NDArray[Any]) -> Faces:
        """Return faces with unknown values except for boxes, scores and those given.

        Args:
            boxes: (n, 4) xyxy px.
            scores: (n,) confidence of the detector.
            known: Values of other fields.
        """
        n = len(boxes)
        unknown = np.full(n, np.nan)
        values: dict[str, Any] = {
            "presence": unknown,
            "age": unknown,
            "age_std": unknown,
            "female": unknown,
            "track_id": np.full(n, -1, dtype=np.int64),
            "classes": np.full(n, None),
            **known,
        }
        if "landmarks" not in known:
            values["landmarks"] = np.full((n, POINTS, 3), np.nan)
        return Faces(boxes=boxes, scores=scores, **values)

    @staticmethod
    def concat(parts: Sequence[Faces]) -> Faces:
        """Stack the rows of several `Faces`."""
        if not parts:
            return Faces.empty()
        return Faces(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Faces)})


_ROWS: dict[str, tuple[int, ...]] = {f.name: () for f in fields(Faces)} | {"boxes": (4,), "landmarks": (POINTS, 3)}
"""Shape of each field's row."""
