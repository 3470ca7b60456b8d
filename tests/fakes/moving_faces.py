"""A drawn video whose faces are known, and a detector and landmarks that see what is drawn and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from mien.runtime.values import FloatArray, Frame, Image
from mien.runtime.vision.geometry import bounds_from_box, overlap_area

SIZE = (320, 240)
FPS = 30


@dataclass(frozen=True)
class Drawn:
    """A face: who it is, the middle of its box, its width, and the detector's score."""

    person: int
    x: float
    y: float
    width: float = 40.0
    score: float = 0.9

    @property
    def box(self) -> FloatArray:
        half = np.array([self.width, 1.32 * self.width]) / 2
        return np.array([self.x - half[0], self.y - half[1], self.x + half[0], self.y + half[1]])


class Film:
    """Frames with faces that lie on a noisy background, the first in front.

    Args:
        scene: Faces of a frame by its number.
        shake: Displacement (x, y) of the whole picture by its number.
        background: Seed of the background by its number.
        presence: What the landmark model says of a face that it sees whole.
    """

    max_side = 320
    min_score = usual_score = 0.5

    def __init__(
        self,
        scene: Callable[[int], Sequence[Drawn]],
        *,
        shake: Callable[[int], tuple[float, float]] = lambda _: (0, 0),
        background: Callable[[int], int] = lambda _: 0,
        presence: float = 0.99,
    ) -> None:
        self._scene, self._shake, self._background, self._presence = scene, shake, background, presence
        self.searched: list[int] = []

    def faces(self, index: int) -> list[Drawn]:
        dx, dy = self._shake(index)
        return [Drawn(f.person, f.x + dx, f.y + dy, f.width, f.score) for f in self._scene(index)]

    def frame(self, index: int) -> Frame:
        picture = _noise(1000 + self._background(index), 24)
        dx, dy = self._shake(index)
        picture = cv2.warpAffine(picture, np.array([[1.0, 0, dx], [0, 1, dy]]), SIZE, borderMode=cv2.BORDER_REFLECT)
        for face in reversed(self.faces(index)):
            x0, y0, x1, y1 = face.box
            grown = np.array([x0 - 4, y0 - 4, x1 + 4, y1 + 4])  # hair
            zoom = np.array([[(grown[2] - grown[0]) / 64, 0, grown[0]], [0, (grown[3] - grown[1]) / 64, grown[1]]])
            head = cv2.warpAffine(_noise(face.person, 6)[:64, :64], zoom, SIZE)
            there = cv2.warpAffine(np.ones((64, 64), np.uint8), zoom, SIZE, flags=cv2.INTER_NEAREST)
            picture = np.where(there[..., None] > 0, head, picture)
        picture[:8, :8] = index  # how detector and landmarks know what they see
        return Frame(np.asarray(picture, np.uint8), timestamp_ns=round(index * 1e9 / FPS), index=index)

    def __call__(
        self, image: Image, *, min_score: float | None = None, small_only: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Detect the faces of which at least 60 % can be seen."""
        index, factor = int(image[1, 1, 0]), image.shape[1] / SIZE[0]
        self.searched.append(index)
        lowest = self.min_score if min_score is None else min_score
        seen = [f for f in self._visible(index, 0.6) if f.score >= lowest and f.width * factor >= 10]
        return np.array([f.box for f in seen]).reshape(-1, 4) * factor, np.array([f.score for f in seen])

    def close(self) -> None: ...

    def locate(self, image: Image, bounds: FloatArray, roll: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Locate the landmarks of the face in front that lies nearest, up to half its width away."""
        landmarks, presence = np.zeros((len(bounds), 68, 3)), np.zeros(len(bounds))
        seen = self._visible(int(image[1, 1, 0]), 0.4)
        for i, expected in enumerate(bounds):
            apart = [np.abs(bounds_from_box(f.box) - expected).max() / f.width for f in seen]
            if apart and min(apart) < 0.5:
                face = seen[int(np.argmin(apart))]
                landmarks[i], presence[i] = _points(face), self._presence
        return landmarks, presence

    def _visible(self, index: int, share: float) -> list[Drawn]:
        faces = self.faces(index)
        hidden = [
            max((overlap_area(f.box[None], g.box[None])[0, 0] for g in faces[:i]), default=0)
            / (f.width * 1.32 * f.width)
            for i, f in enumerate(faces)
        ]
        inside = [0 < f.x < SIZE[0] and 0 < f.y < SIZE[1] for f in faces]
        return [f for f, h, i in zip(faces, hidden, inside, strict=True) if 1 - h >= share and i]


@lru_cache
def _noise(seed: int, cell: int) -> Image:
    small = np.random.default_rng(seed).integers(30, 226, (2 + SIZE[1] // cell, 2 + SIZE[0] // cell, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, SIZE, interpolation=cv2.INTER_CUBIC), np.uint8)


def _points(face: Drawn) -> FloatArray:
    x0, y0, x1, y1 = bounds_from_box(face.box)
    points = np.random.default_rng(0).uniform(0, 1, (68, 3))
    points[:2, :2] = [[0, 0], [1, 1]]
    points[36:42, 1] = points[42:48, 1] = 0.3
    points[36:42, 0], points[42:48, 0] = 0.3, 0.7
    return points * [x1 - x0, y1 - y0, 1] + [x0, y0, 0]
