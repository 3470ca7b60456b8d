"""Estimate age and gender from crops that are aligned by the landmarks, averaged over each track."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..models.runner import Runner
from ..values import Faces, FloatArray, Image
from ..vision.crop import alignment_matrix, cut_crop

EVERY = 10
"""Frames between two estimates of one tracked face."""
AVERAGED = 20
"""Estimates in a track's mean: a plain mean up to this many, an exponential one from then on."""

REMEMBERED = 100
"""Tracks whose estimates are kept while they are out of sight."""


def estimate(runner: Runner, image: Image, landmarks: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Estimate age and gender of faces in one picture.

    Args:
        runner: An age and gender model.
        image: Picture (h, w, 3), uint8 BGR.
        landmarks: Landmarks (n, 68, ≥ 2) in px of `image`.

    Returns:
        Age in years (n,) and the probability of female (n,).
    """
    spec = runner.spec
    size = spec.input_size[0]
    crops = [
        cut_crop(image, alignment_matrix(points, scale=spec.crop_scale, size=size), size).pixels for points in landmarks
    ]
    outputs = runner(np.stack(crops))
    return outputs["age"].astype(np.float64), outputs["female"].astype(np.float64)


@dataclass(slots=True)
class _Track:
    estimates: int
    age: float
    female: float
    next_frame: int


class TrackedAttributes:
    """Average age and gender over each track. A face is estimated when it is new, then every `EVERY` frames."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._tracks: dict[int, _Track] = {}
        self._frame = 0

    def update(self, image: Image, faces: Faces) -> Faces:
        """Return the faces of the next frame with age and gender filled in."""
        ids = faces.track_id.tolist()
        for i in list(self._tracks)[:-REMEMBERED]:
            if i not in ids:
                del self._tracks[i]
        located = np.isfinite(faces.landmarks[:, 0, 0])
        due = [n for n, i in enumerate(ids) if located[n] and self._next_frame(i) <= self._frame]
        if due:
            for n, age, female in zip(due, *estimate(self._runner, image, faces.landmarks[due]), strict=True):
                self._add(ids[n], float(age), float(female))
        self._frame += 1
        return faces.with_fields(
            age=np.array([self._tracks[i].age if i in self._tracks else np.nan for i in ids]),
            female=np.array([self._tracks[i].female if i in self._tracks else np.nan for i in ids]),
        )

    def _next_frame(self, track_id: int) -> int:
        return self._tracks[track_id].next_frame if track_id in self._tracks else 0

    def _add(self, track_id: int, age: float, female: float) -> None:
        track = self._tracks.setdefault(track_id, _Track(0, 0.0, 0.0, 0))
        track.estimates = min(track.estimates + 1, AVERAGED)
        track.age += (age - track.age) / track.estimates
        track.female += (female - track.female) / track.estimates
        track.next_frame = self._frame + EVERY
