"""Estimates head pose from landmarks by a perspective fit of a mean face (PnP)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..errors import InputError
from ..values import POINTS, FloatArray
from .mean_face import CANONICAL

RIGID = slice(17, 68)
"""Brows to lips. The jaw line is left out, as it marks another part of the face in each pose."""
OUTER_EYES = [36, 45]
FAR = 25.0
"""Focal length in face sizes above which projection counts as parallel, since the fit would be ill-conditioned."""


@dataclass(frozen=True, slots=True)
class HeadPose:
    """Angles in degrees, 0 for a face that looks into the camera, wherever it is in the picture.

    Attributes:
        yaw: Positive to the right in the picture.
        pitch: Positive upwards.
        roll: Positive clockwise in the picture.
    """

    yaw: float
    pitch: float
    roll: float

    def axes(self) -> FloatArray:
        """Return the head's axes (3, 3) in camera axes, one per row: left, down, away; the inverse of `pose_of`."""
        yaw, pitch, roll = np.radians([self.yaw, self.pitch, self.roll])
        gaze = np.array([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), -np.cos(yaw) * np.cos(pitch)])
        # The first axis is perpendicular to the gaze and appears in the picture at the angle of the roll.
        in_picture = np.array([np.cos(roll), np.sin(roll)])
        across = np.array([*in_picture, -(gaze[:2] @ in_picture) / gaze[2]])
        across /= np.linalg.norm(across)
        return np.stack([across, np.cross(-gaze, across), -gaze])


def head_pose(landmarks: FloatArray, size_px: tuple[int, int]) -> HeadPose | None:
    """Estimate the pose of one face relative to the line of sight from the camera to it.

    The focal length is assumed to equal the picture's longer side, a field of view of 53°. The optical axis is assumed
    to pass through the face, so that equal landmarks have equal poses wherever they are in the picture.

    Args:
        landmarks: Landmarks (68, ≥ 2) in px.
        size_px: Width and height of the picture.

    Returns:
        The pose, or None if the landmarks form no face.

    Raises:
        InputError: The landmarks have another shape.
    """
    if landmarks.ndim != 2 or len(landmarks) != POINTS:
        raise InputError(f"expected the landmarks ({POINTS}, 3) of one face, found {landmarks.shape}")
    points = np.ascontiguousarray(landmarks[RIGID, :2], dtype=np.float64)
    if not np.isfinite(points).all():
        return None
    face_size = float(np.ptp(points, axis=0).max())
    if not face_size:  # all points in one place
        return None
    points = (points - landmarks[OUTER_EYES, :2].mean(axis=0)) / face_size
    focal = min(max(size_px) / face_size, FAR)
    try:
        found, rotation, _ = cv2.solvePnP(
            CANONICAL[RIGID], points, np.diag([focal, focal, 1.0]), None, flags=cv2.SOLVEPNP_SQPNP
        )
    except cv2.error:  # for example, points in a line
        return None
    if not found:
        return None
    return pose_of(np.asarray(cv2.Rodrigues(np.asarray(rotation))[0], dtype=np.float64))


def pose_of(rotation: FloatArray) -> HeadPose:
    """Return the angles of a rotation (3, 3) of the mean face in camera axes (x right, y down, z away)."""
    gaze = -rotation[:, 2]  # out of the face
    across = rotation[:, 0]
    yaw = np.arctan2(gaze[0], -gaze[2])
    pitch = np.arctan2(-gaze[1], np.hypot(gaze[0], gaze[2]))
    roll = np.arctan2(across[1], across[0])
    return HeadPose(*(float(np.degrees(a)) for a in (yaw, pitch, roll)))
