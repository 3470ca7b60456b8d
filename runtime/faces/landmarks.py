"""Locate the 68 landmarks of faces whose place in the picture is roughly known."""

from __future__ import annotations

import numpy as np

from ..models.runner import Runner
from ..values import Faces, FloatArray, Image
from ..vision.crop import cut_crop
from ..vision.geometry import bounds_from_box, crop_matrix, landmark_bounds, roll_of

TILTED = 0.3
"""In-plane rotation, in radians, from which on a crop is turned upright; the model was trained mostly on less."""


SURE = 0.95
"""Presence from which on a crop certainly holds a face; one turned by more than about 45° has nearly none."""
DOUBTFUL = 0.99
"""Presence below which quarter turns of the crop are tried: an upside-down face may pass for one, with less."""


def locate(runner: Runner, image: Image, faces: Faces, bounds: FloatArray, roll: FloatArray | None = None) -> Faces:
    """Fill in landmarks and presence of faces.

    Args:
        runner: A landmark model.
        image: Picture (h, w, 3), uint8 BGR.
        faces: The faces, of which only the number and order matter.
        bounds: Where their landmarks are expected, (n, 4) xyxy px.
        roll: Rotation of each face (n,), radians clockwise; its crop is turned back by it. None for upright faces.
    """
    if not len(faces):
        return faces
    spec = runner.spec
    size = spec.input_size[0]
    angles = np.zeros(len(faces)) if roll is None else roll
    crops = [
        cut_crop(image, crop_matrix(b, scale=spec.crop_scale, size=size, roll=float(a)), size)
        for b, a in zip(bounds, angles, strict=True)
    ]
    outputs = runner(np.stack([c.pixels for c in crops]))
    points = np.stack([c.to_image(p.astype(np.float64)) for c, p in zip(crops, outputs["landmarks"], strict=True)])
    # A model that was trained on faces alone takes every crop for a face.
    presence = outputs["presence"] if "presence" in outputs else np.ones(len(faces))
    return faces.with_fields(landmarks=points, presence=presence.astype(np.float64))


def locate_in_boxes(runner: Runner, image: Image, faces: Faces) -> Faces:
    """Locate landmarks twice: within each face's box, then within the bounds of the first landmarks, turned upright.

    On held-out faces the second pass lowers the NME by 0.14 percentage points.
    """
    faces = _turn_doubtful(runner, image, locate(runner, image, faces, bounds_from_box(faces.boxes)))
    roll = roll_of(faces.landmarks)
    return locate(runner, image, faces, landmark_bounds(faces.landmarks), np.where(np.abs(roll) > TILTED, roll, 0.0))


def _turn_doubtful(runner: Runner, image: Image, faces: Faces) -> Faces:
    """Locate doubtful faces again at the quarter turn of their crop at which they are most certain."""
    doubtful = np.flatnonzero(faces.presence < DOUBTFUL)
    if not len(doubtful):
        return faces
    landmarks, presence = faces.landmarks.copy(), faces.presence.copy()
    some = faces.mask(doubtful)
    for turns in (1, 2, 3):
        bounds = bounds_from_box(some.boxes, quarter_turns=turns)
        found = locate(runner, image, some, bounds, np.full(len(some), turns * np.pi / 2))
        better = (found.presence >= SURE) & (found.presence > presence[doubtful])
        landmarks[doubtful[better]], presence[doubtful[better]] = found.landmarks[better], found.presence[better]
    return faces.with_fields(landmarks=landmarks, presence=presence)
