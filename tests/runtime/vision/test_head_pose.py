from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.errors import InputError
from mien.runtime.values import FloatArray
from mien.runtime.vision.head_pose import head_pose, pose_of
from mien.runtime.vision.mean_face import CANONICAL

SIZE = (1280, 720)


def turned(yaw: float, pitch: float, roll: float) -> FloatArray:
    """Rotation (3, 3) by degrees: first pitch, then yaw, then roll in the picture."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def seen(rotation: FloatArray, position: tuple[float, float, float] = (0, 0, 6)) -> FloatArray:
    """Landmarks (68, 2) of the mean face through a pinhole camera whose focal length is the longer side."""
    points = CANONICAL @ rotation.T + position
    return points[:, :2] / points[:, 2:] * max(SIZE) + np.array(SIZE) / 2


def test_the_mean_face_is_symmetric_and_looks_ahead() -> None:
    assert np.allclose(CANONICAL[36] * [-1, 1, 1], CANONICAL[45])
    assert np.linalg.norm(CANONICAL[45] - CANONICAL[36]) == pytest.approx(1, abs=0.002)
    assert CANONICAL[30, 2] < CANONICAL[36, 2] < CANONICAL[0, 2]  # nose before eyes before ears
    pose = head_pose(seen(np.eye(3)), SIZE)
    assert pose is not None and max(abs(pose.yaw), abs(pose.pitch), abs(pose.roll)) < 0.1


@pytest.mark.parametrize(
    ("angles", "name"), [((30, 0, 0), "yaw"), ((-45, 0, 0), "yaw"), ((0, 20, 0), "pitch"), ((0, 0, -50), "roll")]
)
def test_known_turns_are_found(angles: tuple[float, float, float], name: str) -> None:
    pose = head_pose(seen(turned(*angles)), SIZE)
    assert pose is not None
    assert (pose.yaw, pose.pitch, pose.roll) == pytest.approx(angles, abs=0.2), name


def test_signs_are_those_of_the_picture() -> None:
    nose, eyes = 30, [36, 45]
    right = seen(turned(25, 0, 0))
    assert right[nose, 0] > right[eyes, 0].mean()  # the nose moves to the right
    up = seen(turned(0, 20, 0))
    assert up[nose, 1] < seen(np.eye(3))[nose, 1]
    clockwise = seen(turned(0, 0, 20))
    assert clockwise[45, 1] > clockwise[36, 1]


def test_axes_are_those_of_the_rotation() -> None:
    rotation = turned(30, -15, 20)
    assert np.allclose(pose_of(rotation).axes(), rotation.T, atol=1e-6)


def test_the_landmarks_of_several_faces_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(68, 3\) of one face, found \(2, 68, 3\)"):
        head_pose(np.zeros((2, 68, 3)), SIZE)


def test_what_is_no_face_has_no_pose() -> None:
    assert head_pose(np.full((68, 3), np.nan), SIZE) is None
    assert head_pose(np.full((68, 3), 50.0), SIZE) is None  # all points in one place


@pytest.mark.parametrize("size_px", [1.5, 20, 400])
def test_pose_is_relative_to_the_line_of_sight(size_px: float) -> None:
    """A face has the same pose wherever it is in the picture, also where it is small in a 4K one."""
    pose = head_pose(seen(turned(30, -10, 5)), SIZE)
    assert pose is not None
    face = seen(turned(30, -10, 5), (0, 0, 60))  # from afar
    face = (face - face.mean(axis=0)) * size_px / np.ptp(face, axis=0).max()
    poses = [head_pose(face + place, (3840, 2160)) for place in ((1920, 1080), (40, 60), (3800, 2100))]
    angles = np.array([[pose.yaw, pose.pitch, pose.roll] for pose in poses if pose is not None])
    assert len(angles) == 3 and np.ptp(angles, axis=0).max() < 1e-3
    assert np.abs(angles - [pose.yaw, pose.pitch, pose.roll]).max() < 1
