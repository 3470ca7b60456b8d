"""From a checkpoint back to its network."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from mien.export.networks.age_gender_net import AgeGenderNet
from mien.export.networks.checkpoint import Checkpoint, load_checkpoint
from mien.export.networks.detector_net import DetectorNet
from mien.export.networks.frozen_backbone_nets import ChapterAgeGenderNet, ChapterClassifier, ChapterLandmarkNet
from mien.export.networks.landmark_net import LandmarkNet
from mien.export.networks.normalization import Normalization
from mien.export.networks.residual_net import ResLayerNet
from mien.runtime.errors import InputError, ModelError
from mien.runtime.models.spec import Task

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
            normalization=Normalization(config["normalization"]),
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
    normalization: Normalization = Normalization.IMAGENET,
    chapter: bool = False,
    input_size: int = 112,
    dims: int = 3,
    classes: int = 2,
) -> nn.Module:
    """Build a task's network without weights. chapter: the textbook chapter's head on a frozen backbone."""
    if task is Task.CLASSIFY:
        return classifier(backbone, classes=classes, weights="none", normalization=normalization)
    if task is Task.DETECTOR:
        return DetectorNet(backbone, normalization=normalization)
    if task is Task.LANDMARKS:
        if chapter:
            return ChapterLandmarkNet(backbone, normalization=normalization)
        return LandmarkNet(backbone, normalization=normalization, input_size=input_size, dims=dims)
    if chapter:
        return ChapterAgeGenderNet(backbone, normalization=normalization)
    return AgeGenderNet(backbone, normalization=normalization)


def classifier(
    backbone: str, *, classes: int, weights: str, normalization: Normalization
) -> ChapterClassifier | ResLayerNet:
    """Build the network for a backbone: ``reslayer`` is whole and trained from scratch, the others are frozen."""
    if backbone == RESLAYER:
        if weights not in ("none", "default"):
            raise InputError(f"{RESLAYER} is trained from scratch: --weights {weights} cannot be used")
        return ResLayerNet(classes=classes, normalization=normalization)
    return ChapterClassifier(backbone, classes=classes, weights=weights, normalization=normalization)


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
