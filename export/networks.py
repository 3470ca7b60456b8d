"""From a checkpoint back to its network."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ..runtime.errors import ModelError
from ..runtime.spec import Task
from .checkpoint import Checkpoint, load_checkpoint
from .detector_net import DetectorNet
from .landmark_net import LandmarkNet
from .prologue import Normalisation


def build_network(checkpoint: Checkpoint) -> nn.Module:
    """Build the network of a checkpoint, with its weights, in evaluation mode.

    Raises:
        ModelError: its weights do not fit its configuration, or its task is not known here.
    """
    try:
        backbone, normalisation = str(checkpoint.config["backbone"]), Normalisation(checkpoint.config["normalisation"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"the checkpoint's configuration is damaged ({error})") from error
    net: nn.Module
    if checkpoint.spec.task is Task.LANDMARKS:
        size = checkpoint.spec.input_size[0]
        net = LandmarkNet(backbone, normalisation=normalisation, input_size=size)
    elif checkpoint.spec.task is Task.DETECTOR:
        net = DetectorNet(backbone, normalisation=normalisation)
    else:
        raise ModelError(f"no network for the task {checkpoint.spec.task.value}")
    try:
        net.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise ModelError("the checkpoint's weights do not fit its network") from error
    return net.eval()


def continue_from(path: Path, net: LandmarkNet | DetectorNet) -> str:
    """Load a checkpoint's weights into a network of the same build; return their digest.

    Raises:
        ModelError: no checkpoint, or one of another network.
    """
    checkpoint = load_checkpoint(path)
    try:
        net.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise ModelError(f"{path} holds another network than the one to train; give its --backbone") from error
    net.backbone.pretrained = True  # its statistics are as good as ImageNet's
    return checkpoint.spec.weights_sha256
