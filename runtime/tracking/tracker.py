"""Tracks faces through a video: states, ids, and the association of detections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..stage_timer import StageTimer
from ..values import Faces, FloatArray, Frame, Image, size_of
from ..vision.boxes import enclosed
from ..vision.geometry import SAME_FACE_IOU, intersection_over_union, longer_side
from .association import match
from .detection_schedule import Detections, DetectionSchedule, Need
from .following import FOUND, MIN_FACE_PX, RECALLED, Locate, follow, locate_faces, meetings
from .patch import REACH, cut_patch, find_patch, likeness, sampled
from .track import Sight, State, Track, landmarks_of

CERTAIN = 0.6
"""Minimum score at which a face without landmarks needs no second detection."""
KEPT_S = 2.0
"""Time for which a lost face keeps its id."""
MOST_LOST = 50
"""Maximum number of lost faces to remember."""
MISSES = 3
"""Number of consecutive searches without a hit after which a face without landmarks is lost."""
RUNS = 2.0
"""Maximum distance, in face sizes, that a new face may have moved since the frame in which it was detected."""
UNCOVERED = 0.5
"""Covered share of a hidden face below which it should reappear."""
SAME_SCENE = 0.5
"""Likeness of successive pictures, as thumbnails, below which the scene may have been cut."""
SAMPLE_PX = 32
"""Side of the picture of single pixels from which such a thumbnail is made."""


class Tracker:
    """Tracks of one video.

    Args:
        schedule: Searches frames for faces; not closed by the tracker.
        locate: Locates landmarks, as `landmarks.locate` does over a runner.
        timer: Records how long each stage takes.
        thorough: Show new faces without a second detection, and lost ones where they should be, with a NaN score.
    """

    def __init__(
        self,
        schedule: DetectionSchedule,
        locate: Locate,
        *,
        timer: StageTimer | None = None,
        thorough: bool = False,
    ) -> None:
        self._schedule = schedule
        self._timer = timer if timer is not None else StageTimer()
        self._locator = locate
        self._thorough = thorough
        self._tracks: list[Track] = []
        self._next_id = 0
        self._scene: FloatArray | None = None

    def update(self, frame: Frame) -> Faces:
        """Return the faces in view in the next frame, in the order in which they appeared."""
        replaced = self._follow(frame)
        self._begin_scene(frame.pixels)
        due = self._schedule.next_frame()
        if due is not None:
            self._take(frame, due, earlier=True)
        need = self._need(frame.timestamp_ns, replaced=replaced)
        found = self._schedule.search(frame.pixels, need, {t: t.box for t in self._in_sight()})
        if found is not None:
            self._take(frame, found, earlier=False)
        self._forget(frame.timestamp_ns)
        faces = _faces([t for t in self._tracks if t.state is State.CONFIRMED])
        if not self._thorough:
            return faces
        lost = [t for t in self._tracks if t.state is State.LOST]
        return Faces.concat([faces, _unseen(lost, frame.timestamp_ns)])

    def _in_sight(self) -> list[Track]:
        return [t for t in self._tracks if t.state is not State.LOST]

    def _need(self, time_ns: int, *, replaced: bool) -> Need:
        seen = self._in_sight()
        if replaced or not seen:
            return Need.NOW
        hidden = [t.predicted(time_ns) for t in self._tracks if t.hidden]
        if hidden:
            covered = enclosed(np.array(hidden), np.array([t.box for t in seen])).max(axis=0)
            if (covered < UNCOVERED).any():
                return Need.NEXT
        settled = all(t.state is State.CONFIRMED and t.landmarks is not None for t in self._tracks)
        return Need.ROUTINE if settled else Need.SOON

    def _locate(self, image: Image, bounds: FloatArray, roll: FloatArray) -> tuple[FloatArray, FloatArray]:
        with self._timer.stage("landmarks"):
            return self._locator(image, bounds, roll)

    def _follow(self, frame: Frame) -> bool:
        """Follow the faces in view; return whether another face has taken the place of any."""
        tracks = self._in_sight()
        sights = follow(frame, tracks, self._locate)
        for track, sight in zip(tracks, sights, strict=True):
            if sight.box is None:
                track.lose(sight)
            else:
                track.see(sight, frame.timestamp_ns)
        return any(s.replaced for s in sights)

    def _begin_scene(self, pixels: Image) -> None:
        """Forget all faces if the picture has changed and none of them is in view any more."""
        sample = sampled(pixels, (SAMPLE_PX, SAMPLE_PX))
        before, scene = self._scene, cut_patch(sample, np.array([0, 0, *size_of(sample)]))
        if not scene.any():  # an empty picture resembles no other: the next one is compared with that before it
            return
        self._scene = scene
        if before is None or self._in_sight() or not self._tracks:
            return
        if likeness(before, scene) < SAME_SCENE:
            self._tracks.clear()

    def _take(self, frame: Frame, found: Detections, *, earlier: bool) -> None:
        """Assign detections to the faces that were followed in their frame; add the faces that are new.

        Args:
            frame: The present frame.
            found: Detections in this frame or an earlier one.
            earlier: If so, they are carried forward to where they are now.
        """
        patches = [cut_patch(found.picture, box * found.factor) for box in found.boxes]
        known = self._match_followed(found, patches)
        for row, track in known.items():
            self._confirm(track, float(found.scores[row]))
            if track.landmarks is None:
                moved = track.predicted(frame.timestamp_ns) - found.boxes_then[track]
                box = _carried(frame, found.boxes[row] + moved, patches[row], REACH) if earlier else found.boxes[row]
                if box is not None:
                    track.see(Sight(box=box, patch=patches[row], presence=track.presence), frame.timestamp_ns)
        if found.full:
            for track in set(found.boxes_then).difference(known.values()):
                track.misses += 1
                if track.landmarks is None and track.misses >= MISSES:
                    track.lose()
        new = [row for row in np.flatnonzero(found.likely).tolist() if row not in known]
        boxes = [_carried(frame, found.boxes[r], patches[r], RUNS) if earlier else found.boxes[r] for r in new]
        scores = [float(found.scores[r]) for r, box in zip(new, boxes, strict=True) if box is not None]
        self._add(frame, np.array([box for box in boxes if box is not None]).reshape(-1, 4), scores)

    def _match_followed(self, found: Detections, patches: Sequence[FloatArray]) -> dict[int, Track]:
        """Match sure detections, then those of low scores (the second association of ByteTrack), by row."""
        tracks = [t for t in self._in_sight() if t in found.boxes_then]
        matched: dict[int, Track] = {}
        for rows in (np.flatnonzero(found.likely).tolist(), np.flatnonzero(~found.likely).tolist()):
            then = np.array([found.boxes_then[t] for t in tracks]).reshape(-1, 4)
            pairs = match(found.boxes[rows], [patches[r] for r in rows], then, [t.usual for t in tracks])
            matched |= {rows[i]: tracks[j] for i, j in pairs}
            tracks = [t for t in tracks if t not in matched.values()]
        return matched

    def _add(self, frame: Frame, boxes: FloatArray, scores: Sequence[float]) -> None:
        """Assign detections that match no face in view to lost faces that they resemble, or start new tracks.

        A box with a score that would not do for a picture begins one only if its landmarks hold, or if it is small.
        """
        seen = np.array([t.box for t in self._in_sight()]).reshape(-1, 4)
        sights = locate_faces(frame, boxes, self._locate)
        places = np.array([s.box for s in sights]).reshape(-1, 4)
        new = np.flatnonzero(intersection_over_union(places, seen).max(axis=1, initial=0) < SAME_FACE_IOU).tolist()
        places, sights, scores = places[new], [sights[i] for i in new], [scores[i] for i in new]
        for sight, covered in zip(sights, meetings(places, seen), strict=True):
            sight.meets = bool(covered)
        back = self._match_lost(frame.timestamp_ns, places, sights)
        for i, (sight, score) in enumerate(zip(sights, scores, strict=True)):
            assert sight.box is not None and sight.patch is not None
            track = back.get(i)
            if track is None:
                if not self._thorough and score < self._schedule.min_score and not _holds(sight):
                    continue
                track = Track(sight.box, sight.patch, frame.timestamp_ns, score)
                self._tracks.append(track)
            track.see(sight, frame.timestamp_ns)
            certain = not sight.meets and (sight.landmarks is not None or score >= CERTAIN)
            if track.id >= 0 or certain or self._thorough:
                self._confirm(track, score)

    def _match_lost(self, time_ns: int, places: FloatArray, sights: Sequence[Sight]) -> dict[int, Track]:
        lost = [t for t in self._tracks if t.state is State.LOST]
        pairs = match(
            places,
            [s.patch for s in sights if s.patch is not None],
            np.array([t.predicted(time_ns) for t in lost]).reshape(-1, 4),
            [t.usual for t in lost],
            unseen_s=np.array([(time_ns - t.seen_ns) / 1e9 for t in lost]),
            alike=np.array([t.continues if t.replaced else RECALLED for t in lost]),
        )
        return {i: lost[j] for i, j in pairs}

    def _confirm(self, track: Track, score: float) -> None:
        """Record a detection of a track, which is shown from now on."""
        track.score, track.misses = score, 0
        track.state, track.replaced, track.hidden = State.CONFIRMED, False, False
        if track.id < 0:
            track.id = self._next_id
            self._next_id += 1

    def _forget(self, time_ns: int) -> None:
        """Drop faces that were lost too long ago, or before they were ever shown."""
        lost = [t for t in self._tracks if t.state is State.LOST]
        kept = [t for t in lost if t.id >= 0 and time_ns - t.seen_ns <= KEPT_S * 1e9][-MOST_LOST:]
        self._tracks = [t for t in self._tracks if t.state is not State.LOST or t in kept]


def _holds(sight: Sight) -> bool:
    """Return False for a box that is large enough for landmarks but has no reliable ones."""
    assert sight.box is not None
    return sight.landmarks is not None or float(longer_side(sight.box[None])[0]) < MIN_FACE_PX


def _carried(frame: Frame, box: FloatArray, patch: FloatArray, reach: float) -> FloatArray | None:
    """Return the current position, near a box, of the face with a patch from an earlier frame; None if it is gone."""
    place, correlation = find_patch(frame.pixels, patch, box, reach=reach)
    return place if correlation >= FOUND else None


def _faces(tracks: Sequence[Track]) -> Faces:
    if not tracks:
        return Faces.empty()
    return Faces.from_boxes(
        np.array([t.box for t in tracks]),
        np.array([t.score for t in tracks]),
        landmarks=landmarks_of(tracks),
        presence=np.array([t.presence for t in tracks]),
        track_id=np.array([t.id for t in tracks], dtype=np.int64),
    )


def _unseen(tracks: Sequence[Track], time_ns: int) -> Faces:
    """Return lost faces, in boxes that cover both their last and their predicted positions, without landmarks."""
    last = np.array([t.box for t in tracks]).reshape(-1, 4)
    places = np.array([t.predicted(time_ns) for t in tracks]).reshape(-1, 4)
    reach = [np.minimum(last[:, :2], places[:, :2]), np.maximum(last[:, 2:], places[:, 2:])]
    ids = np.array([t.id for t in tracks], dtype=np.int64)
    return Faces.from_boxes(np.concatenate(reach, axis=1), np.full(len(tracks), np.nan), track_id=ids)
