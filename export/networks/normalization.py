"""Input scales of pretrained weights; importing them does not import PyTorch."""

from __future__ import annotations

from enum import Enum


class Normalization(str, Enum):
    """Input scale that a backbone's pretrained weights expect."""

    IMAGENET = "imagenet"
    """ImageNet mean and standard deviation, as in torchvision."""
    SYMMETRIC = "symmetric"
    """x / 127.5 − 1, as in TensorFlow."""
