"""Where a lost face is expected."""

from __future__ import annotations

import numpy as np

from mien.runtime.tracking.patch import SIDE
from mien.runtime.tracking.track import Sight, State, Track
from mien.runtime.values import POINTS, FloatArray

FRAME_NS = 40_000_000
PATCHES = np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)
PATCHES /= np.linalg.norm(PATCHES.reshape(2, -1), axis=1)[:, None, None, None]


def box_at(x: float, y: float = 100.0) -> FloatArray:
    return np.array([x, y, x + 20, y + 20])


def walking(frames: int) -> Track:
    """A face that walks right, 5 px per frame, and looks different in the last frames; its last step is a jump down."""
    track, points = Track(box_at(0), PATCHES[0], 0, 0.9), np.zeros((POINTS, 3))
    for i in range(1, 8):
        track.see(Sight(box_at(5.0 * i), PATCHES[0], points), i * FRAME_NS)
    for i in range(8, 8 + frames):  # without landmarks, its usual patch is not learned
        track.see(Sight(box_at(5.0 * i), PATCHES[1]), i * FRAME_NS)
    track.see(Sight(box_at(5.0 * (8 + frames), 150), PATCHES[1]), (8 + frames) * FRAME_NS)
    track.lose()
    assert track.state is State.LOST
    return track


def test_a_face_that_was_covered_is_expected_where_it_was_going() -> None:
    x, y = walking(3).box[:2]
    assert 50 <= x <= 60 and y == 100


def test_a_face_that_looks_different_for_long_is_expected_where_it_was_last() -> None:
    assert walking(30).box.tolist() == box_at(5.0 * 38, 150).tolist()
