"""Classifies whole pictures, or faces cut out of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..models.runner import Runner, check_finite
from ..models.spec import MODEL_FOR, Task
from ..values import Classes, Faces, FloatArray, Image, object_array
from ..vision.face_crop import face_crop
from ..vision.resize import resized


def class_probabilities(runner: Runner, pictures: Sequence[Image]) -> FloatArray:
    """Return the probability of each class (n, classes) for n pictures (h, w, 3), uint8 BGR, of any sizes.

    Raises:
        ModelError: A probability is not finite.
    """
    size = runner.spec.input_size[0]
    probabilities: FloatArray = runner(np.stack([resized(picture, size) for picture in pictures]))["probabilities"]
    check_finite(MODEL_FOR[Task.CLASSIFY], probabilities)
    return probabilities


def name_classes(runner: Runner, probabilities: FloatArray) -> Classes:
    """Return probabilities (classes,) by class name."""
    return dict(zip(runner.spec.classes, probabilities.tolist(), strict=True))


def classify_faces(runner: Runner, image: Image, faces: Faces) -> Faces:
    """Return the faces of a picture (h, w, 3), uint8 BGR, with the classes of their crops (see `face_crop`)."""
    if not len(faces):
        return faces
    values = class_probabilities(runner, [face_crop(image, faces, i) for i in range(len(faces))])
    return faces.with_fields(classes=object_array([name_classes(runner, v) for v in values]))
