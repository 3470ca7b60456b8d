"""Finds tracked faces in the next frame by their landmarks, or by their patches if those are unreliable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..values import FloatArray, Frame, Image, size_of
from ..vision.boxes import enclosed
from ..vision.geometry import (
    SAME_FACE_IOU,
    bounds_from_box,
    box_from_bounds,
    intersection_over_union,
    landmark_bounds,
    longer_side,
    roll_of,
)
from .patch import cut_patch, find_patch, likeness
from .track import LIKE_ITSELF, STEADY, Sight, Track, landmarks_of

MIN_PRESENCE = 0.5
"""Minimum presence of reliable landmarks."""
MIN_FACE_PX = 24
"""Minimum longer side of a box for landmarks to be located."""
SUDDEN_S = 0.25
"""Minimum time between two frames for a face to have changed by itself."""
RECALLED = 0.3
"""Likeness below which a face has changed too much even then."""
FOUND = 0.6
"""Minimum correlation for a face to be tracked by its patch."""
MEETING = 0.15
"""Minimum share of a head covered by another for their faces to be confused."""
HEAD = 0.15
"""How far the head reaches beyond the box of its face on each side, in box sides."""
ONE_FACE_IOU = 0.6
"""Minimum overlap of two tracks that follow the same face."""

Locate = Callable[[Image, FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
"""Locates landmarks by their bounds and rolls, as `landmarks.locate` does over a runner."""


def follow(frame: Frame, tracks: Sequence[Track], locate: Locate) -> list[Sight]:
    """Find the faces of tracks in the next frame, near their predicted positions."""
    if not tracks:
        return []
    places = np.stack([t.predicted(frame.timestamp_ns) for t in tracks])
    sights = [Sight(meets=bool(m)) for m in meetings(places)]
    _by_landmarks(frame, tracks, places, sights, locate)
    _look_again(frame, tracks, places, sights, locate)
    for track, place, sight in zip(tracks, places, sights, strict=True):
        if sight.box is None and not sight.replaced:
            patch = track.patch
            if sight.meets and track.landmarks is not None and likeness(patch, track.usual) >= LIKE_ITSELF:
                patch = track.usual  # the last one may already show a part of the face in front, and would follow that
            box, correlation = find_patch(frame.pixels, patch, place)
            if correlation >= FOUND:
                sight.box, sight.patch = box, patch
    _part(tracks, sights)
    return sights


def locate_faces(frame: Frame, boxes: FloatArray, locate: Locate) -> list[Sight]:
    """Locate the landmarks of new faces in their boxes (n, 4), where they are large enough."""
    sights = [Sight(box=box) for box in boxes]
    large = np.flatnonzero(longer_side(boxes) >= MIN_FACE_PX)
    if len(large):
        landmarks, presences = locate(frame.pixels, bounds_from_box(boxes[large]), np.zeros(len(large)))
        for i, points, presence in zip(large.tolist(), landmarks, presences.tolist(), strict=True):
            sights[i].presence = presence
            if presence >= MIN_PRESENCE:
                sights[i].landmarks, sights[i].box = points, box_from_bounds(landmark_bounds(points))
    for sight in sights:
        assert sight.box is not None
        sight.patch = cut_patch(frame.pixels, sight.box)
    return sights


def meetings(boxes: FloatArray, others: FloatArray | None = None) -> npt.NDArray[np.bool_]:
    """Return whether each box (n, 4) is covered in good part by another one, or by one of the `others` (m, 4)."""
    if others is None and len(boxes) == 1:
        return np.zeros(1, dtype=bool)
    heads = _heads(boxes)
    share = enclosed(heads, heads if others is None else _heads(others))
    if others is None:
        np.fill_diagonal(share, 0)
    covered: npt.NDArray[np.bool_] = share.max(axis=0, initial=0) >= MEETING
    return covered


def _heads(boxes: FloatArray) -> FloatArray:
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2] - HEAD * sides, boxes[:, 2:] + HEAD * sides], axis=1)


def _by_landmarks(
    frame: Frame, tracks: Sequence[Track], places: FloatArray, sights: Sequence[Sight], locate: Locate
) -> None:
    large = np.flatnonzero(longer_side(places) >= MIN_FACE_PX)
    if not len(large):
        return
    roll = roll_of(landmarks_of([tracks[i] for i in large.tolist()]))
    roll[np.isnan(roll)] = 0  # upright where it is unknown
    landmarks, presences = locate(frame.pixels, bounds_from_box(places[large]), roll)
    for i, points, presence in zip(large.tolist(), landmarks, presences.tolist(), strict=True):
        sights[i].presence = presence
        if presence >= MIN_PRESENCE:
            _compare(frame, tracks[i], places[i], points, sights[i])


def _look_again(
    frame: Frame, tracks: Sequence[Track], places: FloatArray, sights: Sequence[Sight], locate: Locate
) -> None:
    """Search for the patch of a face before it counts as replaced by another one, as it may have jumped."""
    jumped: list[int] = []
    boxes: list[FloatArray] = []
    for i in [i for i, sight in enumerate(sights) if sight.replaced]:
        box, correlation = find_patch(frame.pixels, tracks[i].patch, places[i])
        if correlation >= FOUND and np.abs(box - places[i]).max() > STEADY * tracks[i].size:
            jumped.append(i)
            boxes.append(box)
    if jumped:
        _by_landmarks(frame, [tracks[i] for i in jumped], np.stack(boxes), [sights[i] for i in jumped], locate)


def _compare(frame: Frame, track: Track, place: FloatArray, points: FloatArray, sight: Sight) -> None:
    """Accept landmarks if they still belong to the track's own face."""
    box = box_from_bounds(landmark_bounds(points))
    patch = cut_patch(frame.pixels, box)
    if track.landmarks is None:  # its patch is of another kind of box
        holds = bool(intersection_over_union(box[None], place[None])[0, 0] >= SAME_FACE_IOU)
        holds = holds and (not sight.meets or likeness(patch, track.usual) >= FOUND)
    elif sight.meets:  # the face in front may have caught the landmarks
        holds = min(likeness(patch, track.patch), likeness(patch, track.usual)) >= LIKE_ITSELF
    else:
        same = RECALLED
        if frame.timestamp_ns - track.seen_ns < SUDDEN_S * 1e9:
            # At the edge of the picture, a face changes by itself as it comes in or goes out.
            same = track.continues if _is_inside(box, frame.pixels) else FOUND
        holds = likeness(patch, track.patch) >= same
        sight.replaced = not holds
    if holds:
        sight.box, sight.patch, sight.landmarks = box, patch, points


def _is_inside(box: FloatArray, picture: Image) -> bool:
    x0, y0, x1, y1 = box.tolist()
    width, height = size_of(picture)
    return bool(x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height)


def _part(tracks: Sequence[Track], sights: Sequence[Sight]) -> None:
    """If several tracks follow the same face, leave it to the one whose usual patch is most like it."""
    seen = [i for i, s in enumerate(sights) if s.box is not None]
    if len(seen) < 2:
        return
    boxes = np.stack([box for s in sights if (box := s.box) is not None])
    overlap = np.triu(intersection_over_union(boxes, boxes), k=1)
    for a, b in np.argwhere(overlap > ONE_FACE_IOU).tolist():
        first, second = seen[a], seen[b]
        mine, other = sights[first].patch, sights[second].patch
        if mine is None or other is None:  # one of them has gone already
            continue
        stays = likeness(mine, tracks[first].usual) >= likeness(other, tracks[second].usual)
        loser = sights[second if stays else first]
        loser.box = loser.patch = loser.landmarks = None
