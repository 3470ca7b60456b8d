"""Age and gender of faces: crops aligned by the landmarks, and a mean over what a track has shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mien.runtime.models.runner import Runner
from mien.runtime.values import Faces, FloatArray, Image
from mien.runtime.vision.crop import alignment_matrix, cut_crop

EVERY = 10
"""Frames between two looks at one tracked face."""
REMEMBERED = 20
"""Looks that a track's mean goes over: the first are averaged alike, later ones push the oldest out by and by."""


def estimate(runner: Runner, image: Image, landmarks: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Age (n,) in years and probability of female (n,) of faces with landmarks (n, 68, ≥ 2) px of `image`."""
    spec = runner.spec
    size = spec.input_size[0]
    crops = [
        cut_crop(image, alignment_matrix(points, scale=spec.crop_scale, size=size), size).pixels for points in landmarks
    ]
    outputs = runner(np.stack(crops))
    return outputs["age"].astype(np.float64), outputs["female"].astype(np.float64)


@dataclass(slots=True)
class _Track:
    looks: int
    age: float
    female: float
    next_look: int


class TrackedAttributes:
    """Mean age and gender of each track. A face is looked at when it is new, and then every `EVERY` frames."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._tracks: dict[int, _Track] = {}
        self._frame = 0

    def update(self, image: Image, faces: Faces) -> Faces:
        """The faces of the next frame with age and gender filled in."""
        ids = faces.track_id.tolist()
        self._tracks = {i: self._tracks[i] for i in ids if i in self._tracks}  # those that are gone are forgotten
        due = [n for n, i in enumerate(ids) if i not in self._tracks or self._tracks[i].next_look <= self._frame]
        if due:
            for n, age, female in zip(due, *estimate(self._runner, image, faces.landmarks[due]), strict=True):
                self._look(ids[n], float(age), float(female))
        self._frame += 1
        return faces.with_fields(
            age=np.array([self._tracks[i].age for i in ids], dtype=np.float64),
            female=np.array([self._tracks[i].female for i in ids], dtype=np.float64),
        )

    def _look(self, track_id: int, age: float, female: float) -> None:
        track = self._tracks.setdefault(track_id, _Track(0, 0.0, 0.0, 0))
        track.looks = min(track.looks + 1, REMEMBERED)
        track.age += (age - track.age) / track.looks
        track.female += (female - track.female) / track.looks
        track.next_look = self._frame + EVERY
