from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.faces.tracker import Tracker
from mien.runtime.values import Faces, FloatArray, Frame, Image
from mien.runtime.vision.geometry import box_from_bounds, landmark_bounds, roll_of


class World:
    """Faces that are where the test says; the detector and the landmarks see them without error."""

    def __init__(self) -> None:
        self.faces: list[FloatArray] = []
        self.detections = 0
        self.batches: list[int] = []

    def at(self, x: float, y: float, size: float = 40.0) -> FloatArray:
        rng = np.random.default_rng(0)
        points = np.concatenate([rng.uniform(0, size, (68, 2)), np.zeros((68, 1))], axis=1)
        points[:2, :2] = [[0, 0], [size, size]]
        return points + [x, y, 0]

    def detector(self, image: Image, /) -> tuple[FloatArray, FloatArray]:
        self.detections += 1
        boxes = np.array([box_from_bounds(landmark_bounds(f)) for f in self.faces]).reshape(-1, 4)
        return boxes, np.full(len(boxes), 0.9)

    def locate(self, image: Image, faces: Faces, bounds: FloatArray, roll: FloatArray | None = None) -> Faces:
        self.batches.append(len(bounds))
        landmarks, presence = np.zeros((len(bounds), 68, 3)), np.zeros(len(bounds))
        for i, b in enumerate(bounds):
            for face in self.faces:
                real = landmark_bounds(face)
                if np.abs(real - b).max() < 15:
                    landmarks[i], presence[i] = face, 0.99
        return faces.with_fields(landmarks=landmarks, presence=presence)


def frame(index: int) -> Frame:
    return Frame(pixels=np.zeros((200, 200, 3), np.uint8), timestamp_ns=index, index=index)


def test_detector_rests_while_a_face_is_followed() -> None:
    world = World()
    tracker = Tracker(world.detector, world.locate, detect_every=10)
    for i in range(25):
        world.faces = [world.at(10 + 4 * i, 50)]
        faces = tracker.update(frame(i))
        assert faces.track_id.tolist() == [0]
        assert np.allclose(faces.landmarks[0], world.faces[0])
    assert world.detections == 3


def test_several_faces_are_one_batch_and_keep_their_ids() -> None:
    world = World()
    tracker = Tracker(world.detector, world.locate, detect_every=100)
    world.faces = [world.at(0, 0), world.at(80, 0), world.at(0, 90)]
    assert tracker.update(frame(0)).track_id.tolist() == [0, 1, 2]
    world.faces = world.faces[::-1]
    assert tracker.update(frame(1)).track_id.tolist() == [0, 1, 2]
    assert world.batches == [3, 3]


def test_a_lost_face_is_looked_for_at_once_and_gets_a_new_id() -> None:
    world = World()
    tracker = Tracker(world.detector, world.locate, detect_every=100)
    world.faces = [world.at(0, 0), world.at(80, 0)]
    tracker.update(frame(0))
    world.faces = [world.at(0, 0), world.at(80, 120)]  # one has jumped
    assert tracker.update(frame(1)).track_id.tolist() == [0, 2]
    world.faces = []
    assert len(tracker.update(frame(2))) == 0


def test_new_faces_are_found_in_time() -> None:
    world = World()
    tracker = Tracker(world.detector, world.locate, detect_every=5)
    world.faces = [world.at(0, 0)]
    tracker.update(frame(0))
    world.faces.append(world.at(100, 100))
    seen = [len(tracker.update(frame(i))) for i in range(1, 7)]
    assert seen == [1, 1, 1, 1, 2, 2]


def test_two_tracks_on_one_face_become_one() -> None:
    world = World()
    tracker = Tracker(world.detector, world.locate, detect_every=100)
    world.faces = [world.at(0, 0), world.at(12, 0, 41)]
    first = tracker.update(frame(0))
    assert len(first) == 2
    world.faces = [world.at(6, 0)]
    assert tracker.update(frame(1)).track_id.tolist() == [0]


@pytest.mark.parametrize("angle", [0.0, 0.5, -1.0])
def test_roll_is_the_slope_of_the_eyes(angle: float) -> None:
    points = np.zeros((1, 68, 3))
    points[0, 42:48, :2] = [10 * np.cos(angle), 10 * np.sin(angle)]
    assert np.allclose(roll_of(points), angle)
