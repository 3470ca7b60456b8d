"""One tracked face: its position, motion and visibility."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ..values import POINTS, FloatArray
from .patch import likeness

GAIN = 0.4
"""Weight of the newest speed in the mean."""
FADES_S = 1.0
"""Time constant in which the speed of an unseen face fades."""
STEADY = 0.1
"""Movement, in face sizes, up to which a face is expected where it was, so that its crop does not tremble."""
LIKE_ITSELF, LIKE_ITSELF_AT_REST = 0.72, 0.82
"""Minimum likeness to an earlier patch for a face to count as the same, for a moving face and for one at rest."""
CERTAINLY_ITSELF = 0.88
"""Minimum likeness at which a face's appearance is learned while others are near."""
UNCOVERED = 0.8
"""Minimum likeness at which nothing covers a face."""
UNREST = 10.0
"""Unlikeness over its mean that is usual, between these two."""
LEARNING = 0.1
"""Weight of the newest patch in the mean."""
_NO_POINTS = np.full((POINTS, 3), np.nan)


class State(Enum):
    """State of a track: new, in view or lost."""

    TENTATIVE = "tentative"
    CONFIRMED = "confirmed"
    LOST = "lost"


@dataclass(slots=True)
class Sight:
    """A face in the current frame.

    Attributes:
        box: Box (4,), xyxy px; None if the face is not in view.
        patch: Patch of the face; that of its last detection if it is tracked by its box.
        landmarks: Landmarks (68, 3) in px; None if unreliable.
        presence: Probability that its crop contains a face; NaN if it is too small.
        meets: True if another face is so near that the two may be confused.
        replaced: True if another face has taken its place.
    """

    box: FloatArray | None = None
    patch: FloatArray | None = None
    landmarks: FloatArray | None = None
    presence: float = float("nan")
    meets: bool = False
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Motion:
    """Position of a face at a time, and its velocity.

    Attributes:
        box: Box (4,), xyxy px.
        time_ns: Time of the box.
        velocity: Velocity x, y of its centre in px/s; None if unknown.
    """

    box: FloatArray
    time_ns: int
    velocity: tuple[float, float] | None = None

    def predicted(self, time_ns: int) -> FloatArray:
        """Return the box (4,) where the face should be at `time_ns`, at a constant velocity that fades."""
        if self.velocity is None:
            return self.box
        elapsed_s = max(time_ns - self.time_ns, 0) / 1e9
        fading_s = FADES_S * (1 - math.exp(-elapsed_s / FADES_S))
        x, y = (speed * fading_s for speed in self.velocity)
        x0, y0, x1, y1 = self.box.tolist()
        return self.box + [x, y, x, y] if math.hypot(x, y) > STEADY * (x1 - x0 + y1 - y0) / 2 else self.box


@dataclass(slots=True, eq=False)
class Track:
    """A tracked face.

    Attributes:
        box: Last known box (4,), xyxy px.
        patch: Patch of that box; see `cut_patch`.
        seen_ns: Time of that frame.
        score: Score of its last detection.
        landmarks: Landmarks (68, 3) in px there; None if it was tracked by its box.
        presence: Probability that its crop contains a face; NaN if unknown.
        state: State of the track.
        id: Number in the results; -1 while tentative.
        usual: Mean of its patches.
        velocity: Velocity x, y of its centre in px/s; None if unknown.
        misses: Number of searches since then that have not found it.
        replaced: True if another face took its place; it must then look alike to return.
        hidden: True if it disappeared behind another face.
        unrest: Mean unlikeness of its successive patches.
        clear: Its last sight without another face near, or anything before it.
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
    hidden: bool = False
    unrest: float = 0.02
    usual: FloatArray = field(init=False)
    velocity: tuple[float, float] | None = None
    clear: Motion = field(init=False)

    def __post_init__(self) -> None:
        self.usual, self.clear = self.patch, Motion(self.box, self.seen_ns)

    @property
    def size(self) -> float:
        """Mean side of its box, px."""
        x0, y0, x1, y1 = self.box.tolist()
        return (x1 - x0 + y1 - y0) / 2

    @property
    def continues(self) -> float:
        """Minimum likeness of successive patches of the same face."""
        return min(max(LIKE_ITSELF, 1 - UNREST * self.unrest), LIKE_ITSELF_AT_REST)

    def predicted(self, time_ns: int) -> FloatArray:
        """Return the box (4,) where the face should be at `time_ns`, at a constant velocity that fades."""
        return Motion(self.box, self.seen_ns, self.velocity).predicted(time_ns)

    def see(self, sight: Sight, time_ns: int) -> None:
        """Update the track with the face in a frame; little is learned while others are near."""
        assert sight.box is not None and sight.patch is not None
        steady = (self.landmarks is None) == (sight.landmarks is None)  # the two kinds of boxes differ
        elapsed_s = (time_ns - self.seen_ns) / 1e9
        if steady and not sight.meets and elapsed_s > 0:
            x0, y0, x1, y1 = ((sight.box - self.box) / elapsed_s).tolist()
            speed = (x0 + x1) / 2, (y0 + y1) / 2
            before = speed if self.velocity is None else self.velocity
            self.velocity = before[0] + GAIN * (speed[0] - before[0]), before[1] + GAIN * (speed[1] - before[1])
        if sight.landmarks is not None and (not sight.meets or likeness(sight.patch, self.usual) > CERTAINLY_ITSELF):
            if steady:
                self.unrest += LEARNING * (1 - likeness(sight.patch, self.patch) - self.unrest)
            self.usual = self.usual + LEARNING * (sight.patch - self.usual) if steady else sight.patch
        if not sight.meets and likeness(sight.patch, self.usual) >= UNCOVERED:
            self.clear = Motion(sight.box, time_ns, self.velocity)
        self.box, self.patch, self.seen_ns = sight.box, sight.patch, time_ns
        self.landmarks, self.presence = sight.landmarks, sight.presence

    def lose(self, sight: Sight | None = None) -> None:
        """Mark the face as lost; it is expected where it was going before another one or a thing came before it."""
        self.state = State.LOST
        if sight is not None:
            self.replaced, self.hidden = sight.replaced, sight.meets
        if self.seen_ns - self.clear.time_ns <= FADES_S * 1e9:  # later, it just looks different
            self.box, self.velocity = self.clear.predicted(self.seen_ns), self.clear.velocity


def landmarks_of(tracks: Sequence[Track]) -> FloatArray:
    """Return the landmarks (n, 68, 3) of tracks, NaN for those without."""
    return np.stack([_NO_POINTS if t.landmarks is None else t.landmarks for t in tracks])
