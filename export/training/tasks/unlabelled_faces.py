"""Faces of pictures without labels, found once by the shipped models."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....bench.data.label_digest import label_digest
from ....runtime.errors import InputError
from ....runtime.files import sha256_of
from ....runtime.models.shipped import shipped_model
from ....runtime.models.spec import Precision
from ....runtime.pictures.images import read_image
from ....runtime.pipeline.pipeline import Pipeline
from ....runtime.values import POINTS, FloatArray
from ....runtime.vision.geometry import landmark_bounds, longer_side
from ....runtime.wording import counted
from ..array_cache import Arrays, cached_arrays
from ..config import ProgressCallback

log = logging.getLogger("mien")

MIN_PRESENCE = 0.5
MIN_SIDE_PX = 32.0
"""Least longer side of the landmarks' bounds: teachers look at clear faces, students also at small copies of them."""


@dataclass(frozen=True, slots=True)
class FoundFaces:
    """Faces without labels.

    Attributes:
        files: Picture (n,) of each face.
        points: Landmarks (n, 68, 2) in px of the picture.
    """

    files: tuple[Path, ...]
    points: FloatArray

    def __len__(self) -> int:
        return len(self.files)

    @staticmethod
    def none() -> FoundFaces:
        """Return zero faces."""
        return FoundFaces((), np.empty((0, POINTS, 2)))


def readable_pictures(files: Sequence[Path], progress: ProgressCallback) -> list[Path]:
    """Read unlabelled pictures once, and leave out those that cannot be read, with a warning.

    Args:
        files: Pictures.
        progress: Called after each picture.

    Raises:
        InputError: There are pictures, but none can be read.
    """
    readable: list[Path] = []
    unreadable: list[str] = []
    for i, file in enumerate(files):
        try:
            read_image(file)
        except InputError as error:
            unreadable.append(str(error))
        else:
            readable.append(file)
        progress("unlabelled pictures", i + 1, len(files))
    if unreadable and not readable:
        raise InputError(f"no unlabelled picture can be read, the first of {len(files)}: {unreadable[0]}")
    _warn_of(unreadable)
    return readable


def find_faces(files: Sequence[Path], progress: ProgressCallback) -> FoundFaces:
    """Find the faces of pictures with the shipped detector and landmark model, or read them from the cache.

    Pictures that cannot be read are left out, and counted in a warning.

    Args:
        files: Pictures.
        progress: Called after each picture.

    Raises:
        InputError: None of the pictures shows a face.
    """
    if not files:
        return FoundFaces.none()
    models = [sha256_of(shipped_model(name)) for name in ("detector", "landmarks")]
    key = [MIN_PRESENCE, MIN_SIDE_PX, *models, label_digest(list(files))]
    arrays = cached_arrays("faces", key, lambda: _search(files, progress))
    if not len(arrays["picture"]):
        raise InputError(
            f"no face was found in {counted(len(files), 'unlabelled picture')}; pass --unlabelled folders with faces"
        )
    return FoundFaces(tuple(files[i] for i in arrays["picture"]), arrays["points"])


def _search(files: Sequence[Path], progress: ProgressCallback) -> Arrays:
    pictures: list[int] = []
    points: list[FloatArray] = [np.empty((0, POINTS, 2))]
    unreadable: list[str] = []
    with Pipeline.load(attributes=False, precision=Precision.FP32) as pipeline:
        for i, file in enumerate(files):
            try:
                faces = pipeline(read_image(file))
            except InputError as error:
                unreadable.append(str(error))
            else:
                clear = faces.presence >= MIN_PRESENCE
                clear &= longer_side(landmark_bounds(faces.landmarks)) >= MIN_SIDE_PX
                pictures += [i] * int(clear.sum())
                points.append(faces.landmarks[clear, :, :2])
            progress("faces", i + 1, len(files))
    _warn_of(unreadable)
    return {"picture": np.array(pictures, dtype=np.int64), "points": np.concatenate(points)}


def _warn_of(unreadable: Sequence[str]) -> None:
    if unreadable:
        log.warning("left out %s; the first: %s", counted(len(unreadable), "unlabelled picture"), unreadable[0])
