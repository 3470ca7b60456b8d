"""Schedules face detection in video frames, and runs it in the background."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from ..faces.detector import Detector
from ..stage_timer import StageTimer
from ..values import FloatArray, Image, size_of
from ..vision.resize import reduced

NEW_SCORE, LOW_SCORE = 0.8, 0.6
"""Shares of the detector's lowest score down to which a box may be a new face, which a second search must confirm, and
may be a face that is followed already (Zhang et al., "ByteTrack", ECCV 2022)."""


FIFTHS = 5
"""A result is due after one fifth of the interval; the first routine one has the rest."""
AGAIN = 3
"""Number of frames, after one searched immediately, that are searched immediately too while the result is unsure."""
RESTS = 5
"""Number of frames to search in each `every` while no face is in view."""


@dataclass(frozen=True, slots=True)
class Look:
    """A kind of search.

    Attributes:
        part: Divisor of the size at which the picture is searched.
        small_only: Large faces may be left out, for they are found at a smaller size.
    """

    part: int = 1
    small_only: bool = False


FULL = Look()
ROUTINE = (Look(small_only=True), Look(2), Look(2, small_only=True))
"""Searches in turns while all faces are followed by their landmarks: each takes a part of a full one's work."""


class Need(Enum):
    """Urgency of searching a frame."""

    NOW = "now"
    """Nobody is followed, or all changed: results of this very frame."""
    NEXT = "next"
    """A hidden face is expected back: results for the next frame."""
    SOON = "soon"
    """Faces are followed by their boxes, or were lost."""
    ROUTINE = "routine"
    """All faces are followed by their landmarks."""


@dataclass(frozen=True, slots=True)
class Detections:
    """Outcome of one search.

    Attributes:
        boxes: (n, 4) xyxy px of the frame, best first.
        scores: (n,).
        likely: (n,) if it may be a new face; others may only be faces that are followed.
        picture: The reduced frame that was searched.
        factor: Size of `picture` over that of the frame.
        full: If faces of all sizes could be seen.
        boxes_then: Boxes of the faces followed in that frame, by any key.
    """

    boxes: FloatArray
    scores: FloatArray
    likely: npt.NDArray[np.bool_]
    picture: Image
    factor: float
    full: bool
    boxes_then: Mapping[Any, FloatArray]


class DetectionSchedule:
    """Schedule of detections, which run in a thread of their own while faces are tracked.

    A result is handed out a fixed number of frames after its frame, and waited for if need be, so that it does not
    depend on the speed of the machine. In routine, a search at full size for small faces is followed by two at half
    the size for larger ones.

    Args:
        detector: Finds the faces.
        every: Frames between two routine searches at full size; below 5, searches do not run in the background.
        timer: Records the stage "detect".
        calls: Entered for each search in the background, so that the detector is not closed during it.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        every: int,
        timer: StageTimer,
        calls: AbstractContextManager[object] | None = None,
    ) -> None:
        self._detector = detector
        self._calls = calls if calls is not None else nullcontext()
        self._every = every
        self._timer = timer
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="detect")
        self._pending: Future[Detections] | None = None
        self._frame = 0
        self._due = 0  # frame of the pending result, or of the next search
        self._rests_until = 0
        self._again = 0  # frames still to be searched at once
        self._turn = 0  # of the next routine look

    @property
    def min_score(self) -> float:
        """Lowest score of a detection in a picture."""
        return self._detector.min_score

    def next_frame(self) -> Detections | None:
        """Advance by one frame; return the result that is due in it, if any."""
        self._frame += 1
        if self._pending is None or self._frame < self._due:
            return None
        result, self._pending = self._pending.result(), None
        return result

    def search(self, pixels: Image, need: Need, boxes_then: Mapping[Any, FloatArray]) -> Detections | None:
        """Search the frame and return the result, or start a background search, or do nothing if none is due."""
        if need is Need.NOW:
            if self._frame < self._rests_until:
                return None
            self._rests_until = self._frame + max(1, self._every // RESTS)
            self._due, self._again = self._frame + 1, AGAIN
            self._pending = None
            return self._start(pixels, boxes_then).result()
        self._rests_until = 0
        if need is Need.ROUTINE:
            self._again = 0
        if self._pending is not None or self._frame < self._due:
            return None
        if self._again:
            self._again -= 1
            return self._start(pixels, boxes_then).result()
        fifth = self._every // FIFTHS
        if not fifth:
            self._due = self._frame + self._every
            return self._start(pixels, boxes_then).result()
        look = ROUTINE[self._turn] if need is Need.ROUTINE else FULL
        self._turn = (self._turn + 1) % len(ROUTINE) if need is Need.ROUTINE else 1
        frames = fifth if look is not ROUTINE[0] else self._every - (len(ROUTINE) - 1) * fifth
        self._due = self._frame + (1 if need is Need.NEXT else frames)
        self._pending = self._start(pixels.copy(), boxes_then, look)  # the caller may draw on the frame meanwhile
        return None

    def close(self) -> None:
        """Stop the thread after the current search."""
        self._worker.shutdown(wait=False)

    def _start(self, pixels: Image, boxes_then: Mapping[Any, FloatArray], look: Look = FULL) -> Future[Detections]:
        side = min(self._detector.max_side, max(size_of(pixels))) // look.part

        def run() -> Detections:
            with self._timer.stage("detect"):
                picture, factor = reduced(pixels, side)
                lowest = LOW_SCORE * self._detector.min_score
                boxes, scores = self._detector(picture, min_score=lowest, small_only=look.small_only)
            likely = scores >= NEW_SCORE * self._detector.min_score
            return Detections(boxes / factor, scores, likely, picture, factor, look == FULL, boxes_then)

        self._calls.__enter__()
        search = self._worker.submit(run)  # all of them, or each thread would keep buffers for the detector
        search.add_done_callback(lambda _: self._calls.__exit__(None, None, None))
        return search
