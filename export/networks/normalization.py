"""Scales of the input that pretrained weights expect."""

from __future__ import annotations

from enum import Enum


class Normalization(str, Enum):
    """How a backbone's pretrained weights want their input."""

    IMAGENET = "imagenet"
    """torchvision's: ImageNet mean and standard deviation."""
    SYMMETRIC = "symmetric"
    """x / 127.5 − 1, TensorFlow's."""
