"""Follow faces from frame to frame without detecting them again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..values import Faces, FloatArray, Frame, Image
from ..vision.geometry import (
    SAME_FACE_IOU,
    bounds_from_box,
    box_from_bounds,
    intersection_over_union,
    landmark_bounds,
    roll_of,
)
from .stage_timer import StageTimer

MIN_PRESENCE = 0.5
"""Presence below which a face counts as lost."""


class Tracker:
    """Faces of the last frame of one video, and the next free id.

    The detector runs on the first frame, every `detect_every` frames, and when a face was lost.

    Args:
        detect: Finds boxes (n, 4) xyxy px and scores (n,) in a picture.
        locate: Locates landmarks, as `landmarks.locate` does over a runner.
        detect_every: Frames between two detections.
        clock: Records how long each stage takes.
    """

    def __init__(
        self,
        detect: Callable[[Image], tuple[FloatArray, FloatArray]],
        locate: Callable[..., Faces],
        *,
        detect_every: int = 15,
        clock: StageTimer | None = None,
    ) -> None:
        self._detect = detect
        self._locate = locate
        self._clock = clock if clock is not None else StageTimer()
        self._detect_every = detect_every
        self._faces = Faces.empty()
        self._next_id = 0
        self._since_detection = detect_every  # so that the first frame is detected

    def update(self, frame: Frame) -> Faces:
        """Return the faces of the next frame."""
        followed = self._follow(frame)
        lost = len(followed) < len(self._faces)
        self._since_detection += 1
        if lost or self._since_detection >= self._detect_every:
            self._since_detection = 0
            followed = Faces.concat([followed, self._find_new(frame, followed)])
        self._faces = followed
        return followed

    def _follow(self, frame: Frame) -> Faces:
        last = self._faces
        if not len(last):
            return last
        with self._clock.stage("landmarks"):
            found = self._locate(frame.pixels, last, landmark_bounds(last.landmarks), roll_of(last.landmarks))
        found = found.with_fields(boxes=box_from_bounds(landmark_bounds(found.landmarks)))
        found = found.mask(found.presence >= MIN_PRESENCE)
        return found.mask(_without_duplicates(found.boxes)) if len(found) > 1 else found

    def _find_new(self, frame: Frame, known: Faces) -> Faces:
        with self._clock.stage("detect"):
            boxes, scores = self._detect(frame.pixels)
        if len(known) and len(boxes):
            new = intersection_over_union(boxes, known.boxes).max(axis=1) < SAME_FACE_IOU
            boxes, scores = boxes[new], scores[new]
        if not len(boxes):
            return Faces.empty()
        with self._clock.stage("landmarks"):
            faces = self._locate(frame.pixels, Faces.from_boxes(boxes, scores), bounds_from_box(boxes))
        faces = faces.mask(faces.presence >= MIN_PRESENCE)
        ids = np.arange(self._next_id, self._next_id + len(faces), dtype=np.int64)
        self._next_id += len(faces)
        return faces.with_fields(track_id=ids)


def _without_duplicates(boxes: FloatArray) -> npt.NDArray[np.intp]:
    """Return the indices of boxes (n, 4) that overlap no earlier one, as two tracks do that have run into one face."""
    overlap = np.triu(intersection_over_union(boxes, boxes), k=1)
    return np.flatnonzero(overlap.max(axis=0, initial=0) < 0.6)
