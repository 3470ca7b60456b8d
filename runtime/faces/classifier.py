"""Classify whole pictures."""

from __future__ import annotations

from ..models.runner import Runner
from ..values import FloatArray, Image
from ..vision.crop import resized


def class_probabilities(runner: Runner, image: Image) -> FloatArray:
    """Return the probability of each class (classes,) for a picture (h, w, 3), uint8 BGR."""
    probabilities: FloatArray = runner(resized(image, runner.spec.input_size[0])[None])["probabilities"][0]
    return probabilities
