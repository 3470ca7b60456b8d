"""In which ways PyTorch is asked to run a network, named without importing it."""

from __future__ import annotations

from enum import Enum


class Baseline(str, Enum):
    """How PyTorch is asked to run a network."""

    EAGER = "eager"
    """As it is called by those who do nothing about it."""
    CHANNELS_LAST = "channels-last"
    """With weights and activations as NHWC in memory."""
    COMPILE = "compile"
    """Through torch.compile, which needs a C++ compiler on a CPU."""
