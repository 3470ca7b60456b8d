"""One face of a video: where it is, where it will be, and if it is in sight."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ..values import FloatArray

GAIN = 0.4
"""Weight of the newest speed in the mean."""
FADES_S = 0.5
"""Time constant in which the speed of an unseen face fades."""
LEARNING = 0.1
"""Weight of the newest patch in the mean."""


class State(Enum):
    """Life of a track: new, in sight, out of sight."""

    TENTATIVE = "tentative"
    CONFIRMED = "confirmed"
    LOST = "lost"


@dataclass(slots=True)
class Sight:
    """A face in the present frame.

    Attributes:
        box: (4,) xyxy px; None if it is not in sight.
        patch: How it looks; that of its last detection if it is followed by its box.
        landmarks: (68, 3) px; None where they do not hold.
        presence: Probability that its crop contains a face; NaN if it is too small.
        meets: True if another face is so near that the two may be taken for each other.
        replaced: True if another face has taken its place.
    """

    box: FloatArray | None = None
    patch: FloatArray | None = None
    landmarks: FloatArray | None = None
    presence: float = float("nan")
    meets: bool = False
    replaced: bool = False


@dataclass(slots=True, eq=False)
class Track:
    """A face that is tracked.

    Attributes:
        box: Where it was seen last, (4,) xyxy px.
        patch: How it looked then; see `patch`.
        seen_ns: Time of that frame.
        score: Score of its last detection.
        landmarks: (68, 3) px, as located; None if it is followed by its box.
        presence: Probability that its crop contains a face; NaN if that was not asked.
        state: Where it is in its life.
        id: Number in the results; -1 while tentative.
        usual: Mean of its patches.
        velocity: Of its centre, (2,) px/s.
        misses: Searches since that have not found it.
        replaced: True if it ended in another face at its place; then it must look alike to come back.
    """

    box: FloatArray
    patch: FloatArray
    seen_ns: int
    score: float
    landmarks: FloatArray | None = None
    presence: float = float("nan")
    state: State = State.TENTATIVE
    id: int = -1
    misses: int = 0
    replaced: bool = False
    usual: FloatArray = field(init=False)
    velocity: FloatArray = field(default_factory=lambda: np.zeros(2))

    def __post_init__(self) -> None:
        self.usual = self.patch

    @property
    def size(self) -> float:
        """Mean side of its box, px."""
        return float((self.box[2:] - self.box[:2]).mean())

    def shift(self, time_ns: int) -> FloatArray:
        """Return how far (2,) its centre has moved by `time_ns`, at a constant velocity that fades."""
        elapsed_s = max(time_ns - self.seen_ns, 0) / 1e9
        return self.velocity * FADES_S * (1 - np.exp(-elapsed_s / FADES_S))

    def predicted(self, time_ns: int) -> FloatArray:
        """Return the box (4,) where the face should be at `time_ns`."""
        return self.box + np.tile(self.shift(time_ns), 2)

    def see(self, sight: Sight, time_ns: int) -> None:
        """Note where and how the face is in a frame; speed and usual looks are not learned where others are near."""
        assert sight.box is not None and sight.patch is not None
        steady = (self.landmarks is None) == (sight.landmarks is None)  # the two kinds of boxes differ
        elapsed_s = (time_ns - self.seen_ns) / 1e9
        if steady and not sight.meets and elapsed_s > 0:
            moved = (sight.box[:2] + sight.box[2:] - self.box[:2] - self.box[2:]) / 2
            self.velocity = self.velocity + GAIN * (moved / elapsed_s - self.velocity)
        if sight.landmarks is not None and not sight.meets:
            self.usual = self.usual + LEARNING * (sight.patch - self.usual) if steady else sight.patch
        self.box, self.patch, self.seen_ns = sight.box, sight.patch, time_ns
        self.landmarks, self.presence = sight.landmarks, sight.presence

    def lose(self, *, replaced: bool = False) -> None:
        """Put the face out of sight."""
        self.state, self.replaced, self.landmarks = State.LOST, replaced, None
