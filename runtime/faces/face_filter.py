"""Selects the faces to report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..values import Faces
from ..vision.geometry import longer_side

Region = tuple[float, float, float, float]
"""Left, top, right and bottom, as fractions of the picture's width and height."""


@dataclass(frozen=True, slots=True)
class FaceFilter:
    """Conditions on the faces to report; None means no condition.

    Attributes:
        min_score: Minimum score of a face's last detection, above 0 and at most 1.
        max_faces: Maximum number of faces per picture; the largest are kept.
        min_face_px: Minimum longer side of a box in px of the picture.
        region: Region that must contain the centre of a box.

    Raises:
        InputError: No face, or no picture, can meet a condition.
    """

    min_score: float | None = None
    max_faces: int | None = None
    min_face_px: float | None = None
    region: Region | None = None

    def __post_init__(self) -> None:
        if self.min_score is not None and not 0 < self.min_score <= 1:
            raise InputError(f"expected a minimum score above 0 and at most 1, found {self.min_score}")
        if self.max_faces is not None and not self.max_faces >= 1:
            raise InputError(f"expected a maximum of at least 1 face, found {self.max_faces}")
        if self.min_face_px is not None and not self.min_face_px > 0:
            raise InputError(f"expected a minimum face size above 0 px, found {self.min_face_px}")
        if self.region is not None:
            _check_region(self.region)

    def __call__(self, faces: Faces, size_px: tuple[int, int]) -> Faces:
        """Return the faces that meet the conditions, in their order.

        Args:
            faces: Faces of one picture.
            size_px: Width and height of the picture.
        """
        sides = longer_side(faces.boxes)
        keep = np.ones(len(faces), dtype=bool)
        if self.min_score is not None:
            keep &= faces.scores >= self.min_score
        if self.min_face_px is not None:
            keep &= sides >= self.min_face_px
        if self.region is not None:
            centres = faces.boxes.reshape(-1, 2, 2).mean(axis=1) / size_px
            keep &= ((centres >= self.region[:2]) & (centres < self.region[2:])).all(axis=1)
        if self.max_faces is not None and keep.sum() > self.max_faces:
            largest = np.argsort(np.where(keep, -sides, np.inf), kind="stable")[: self.max_faces]
            keep = np.isin(np.arange(len(faces)), largest)
        return faces if keep.all() else faces.mask(keep)


def _check_region(region: Region) -> None:
    if len(region) == 4:
        left, top, right, bottom = region
        if 0 <= left < right <= 1 and 0 <= top < bottom <= 1:
            return
    raise InputError(
        "region: expected left, top, right, bottom as fractions of the picture, such as 0.5,0,1,1 for its right half; "
        f"found {','.join(f'{share:g}' for share in region)}"
    )
