"""Keeps the best view of each tracked face in a video."""

from __future__ import annotations

from ..values import Faces, Image
from ..vision.face_crop import face_crop, landmarks_hold

BETTER = 1.1
"""Factor by which a view must be larger to replace that of an earlier frame."""


class TrackCrops:
    """Best view of each tracked face: the largest one with landmarks, else the largest."""

    def __init__(self) -> None:
        self._best: dict[int, tuple[bool, float, Image]] = {}

    def update(self, picture: Image, faces: Faces) -> None:
        """Add the faces of the next frame."""
        for i, track in enumerate(faces.track_id.tolist()):
            x0, y0, x1, y1 = faces.boxes[i].tolist()
            holds, size = landmarks_hold(faces, i), max(x1 - x0, y1 - y0)
            before = self._best.get(track)
            if before is None or (holds, size) > (before[0], BETTER * before[1] if holds == before[0] else 0):
                self._best[track] = holds, size, face_crop(picture, faces, i).copy()

    def crops(self) -> dict[int, Image]:
        """Return the crop of each track."""
        return {track: pixels for track, (_, _, pixels) in sorted(self._best.items())}
