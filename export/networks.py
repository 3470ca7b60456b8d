"""From a checkpoint back to its network."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ..runtime.errors import InputError, ModelError
from ..runtime.spec import Task
from .age_gender_net import AgeGenderNet
from .chapter_nets import ChapterAgeGenderNet, ChapterClassifier, ChapterLandmarkNet
from .checkpoint import Checkpoint, load_checkpoint
from .detector_net import DetectorNet
from .landmark_net import LandmarkNet
from .prologue import Normalisation
from .residual_net import ResLayerNet

RESLAYER = "reslayer"


def build_network(checkpoint: Checkpoint) -> nn.Module:
    """Build the network of a checkpoint, with its weights, in evaluation mode.

    Raises:
        ModelError: its weights do not fit its configuration, or the configuration is damaged.
    """
    config, spec = checkpoint.config, checkpoint.spec
    try:
        net = empty_network(
            spec.task,
            str(config["backbone"]),
            normalisation=Normalisation(config["normalisation"]),
            chapter=config.get("recipe") == "chapter",
            input_size=spec.input_size[0],
            dims=spec.dims,
            classes=max(2, len(spec.classes)),
        )
    except (KeyError, ValueError) as error:
        raise ModelError(f"the checkpoint's configuration is damaged ({error})") from error
    try:
        net.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise ModelError("the checkpoint's weights do not fit its network") from error
    return net.eval()


def empty_network(
    task: Task,
    backbone: str,
    *,
    normalisation: Normalisation = Normalisation.IMAGENET,
    chapter: bool = False,
    input_size: int = 112,
    dims: int = 3,
    classes: int = 2,
) -> nn.Module:
    """Build a task's network without weights. chapter: the textbook chapter's head on a frozen backbone."""
    if task is Task.CLASSIFY:
        return classifier(backbone, classes=classes, weights="none", normalisation=normalisation)
    if task is Task.DETECTOR:
        return DetectorNet(backbone, normalisation=normalisation)
    if task is Task.LANDMARKS:
        if chapter:
            return ChapterLandmarkNet(backbone, normalisation=normalisation)
        return LandmarkNet(backbone, normalisation=normalisation, input_size=input_size, dims=dims)
    if chapter:
        return ChapterAgeGenderNet(backbone, normalisation=normalisation)
    return AgeGenderNet(backbone, normalisation=normalisation)


def classifier(
    backbone: str, *, classes: int, weights: str, normalisation: Normalisation
) -> ChapterClassifier | ResLayerNet:
    """Build the network for a backbone: ``reslayer`` is whole and trained from scratch, the others are frozen."""
    if backbone == RESLAYER:
        if weights not in ("none", "default"):
            raise InputError(f"{RESLAYER} is trained from scratch: --weights {weights} cannot be used")
        return ResLayerNet(classes=classes, normalisation=normalisation)
    return ChapterClassifier(backbone, classes=classes, weights=weights, normalisation=normalisation)


def continue_from(path: Path, net: LandmarkNet | DetectorNet | AgeGenderNet) -> str:
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
