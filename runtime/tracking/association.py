"""Associates detections with tracks by motion, overlap and likeness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..values import FloatArray
from ..vision.geometry import intersection_over_union
from .assignment import assign
from .patch import likeness

FAR = 1.0
"""Maximum distance of a track's box from its predicted position, in face sizes."""
SPREADS = 1.0
"""Growth of that distance for a face out of view, in face sizes per second."""
RESIZED = 2.0
"""Maximum ratio of sizes between a track and its box."""
_NEVER = 1e3


def match(
    boxes: FloatArray,
    patches: Sequence[FloatArray],
    tracks: FloatArray,
    track_patches: Sequence[FloatArray],
    *,
    unseen_s: FloatArray | None = None,
    alike: FloatArray | None = None,
) -> list[tuple[int, int]]:
    """Assign boxes to tracks at the lowest total of distance, missing overlap and unlikeness.

    Args:
        boxes: Detections (n, 4), xyxy px.
        patches: Patches of the detections.
        tracks: Predicted boxes (m, 4) of the tracks.
        track_patches: Patches of the tracks.
        unseen_s: Time (m,) since each track was seen; None if all are in view.
        alike: Minimum likeness (m,) to each track; None for any.

    Returns:
        (box, track) pairs.
    """
    if not len(boxes) or not len(tracks):
        return []
    sizes, track_sizes = ((b[:, 2:] - b[:, :2]).mean(axis=1) for b in (boxes, tracks))
    apart = (boxes[:, None, :2] + boxes[:, None, 2:] - tracks[None, :, :2] - tracks[None, :, 2:]) / 2
    distance = np.linalg.norm(apart, axis=2) / track_sizes
    ratio = sizes[:, None] / track_sizes
    similar = np.array([[likeness(a, b) for b in track_patches] for a in patches])
    near = FAR if unseen_s is None else FAR + SPREADS * unseen_s
    possible = (distance < near) & (ratio < RESIZED) & (ratio > 1 / RESIZED)
    if alike is not None:
        possible &= similar >= alike
    cost = distance + (1 - intersection_over_union(boxes, tracks)) + (1 - similar)
    return assign(np.where(possible, cost, _NEVER), _NEVER / 2)
