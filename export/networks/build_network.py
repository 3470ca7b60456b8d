"""Builds the networks of all tasks: empty, from a checkpoint, or initialized from one."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ...runtime.errors import InputError, ModelError
from ...runtime.models.spec import Task
from .age_gender_net import STD_SCALE, AgeGenderNet
from .checkpoint import Checkpoint, load_checkpoint
from .detector_net import DetectorNet
from .frozen_backbone_nets import (
    RECIPE,
    FrozenBackboneAgeGenderNet,
    FrozenBackboneClassifier,
    FrozenBackboneLandmarkNet,
)
from .landmark_net import LandmarkNet
from .normalization import Normalization
from .residual_net import ResLayerNet

RESLAYER = "reslayer"


def build_network(checkpoint: Checkpoint) -> nn.Module:
    """Rebuild a checkpoint's network, with its weights, in evaluation mode.

    Raises:
        ModelError: The weights do not fit the configuration, or the configuration is damaged.
    """
    config, spec = checkpoint.config, checkpoint.spec
    try:
        net = empty_network(
            spec.task,
            str(config["backbone"]),
            normalization=Normalization(config["normalization"]),
            frozen_backbone=config.get("recipe") == RECIPE,
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
    if isinstance(net, AgeGenderNet):
        net.std_scale = checkpoint.metrics.get(STD_SCALE)
    return net.eval()


def empty_network(
    task: Task,
    backbone: str,
    *,
    normalization: Normalization = Normalization.IMAGENET,
    frozen_backbone: bool = False,
    input_size: int = 112,
    dims: int = 3,
    classes: int = 2,
) -> nn.Module:
    """Build a task's network without pretrained weights.

    Args:
        task: Task that decides the kind of network.
        backbone: Name of a torchvision network, or ``reslayer`` for a classifier.
        normalization: Input scale of the backbone.
        frozen_backbone: Build the textbook's landmark or age and gender network.
        input_size: Side of a landmark network's crop, in px.
        dims: 3 for a landmark network with depth, else 2.
        classes: Number of classes of a classifier.
    """
    if task is Task.CLASSIFY:
        return build_classifier(backbone, classes=classes, weights="none", normalization=normalization)
    if task is Task.DETECTOR:
        return DetectorNet(backbone, normalization=normalization)
    if task is Task.LANDMARKS:
        if frozen_backbone:
            return FrozenBackboneLandmarkNet(backbone, normalization=normalization)
        return LandmarkNet(backbone, normalization=normalization, input_size=input_size, dims=dims)
    if frozen_backbone:
        return FrozenBackboneAgeGenderNet(backbone, normalization=normalization)
    return AgeGenderNet(backbone, normalization=normalization)


def build_classifier(
    backbone: str, *, classes: int, weights: str, normalization: Normalization
) -> FrozenBackboneClassifier | ResLayerNet:
    """Build a classifier: ``reslayer`` is trained from scratch as a whole, any other backbone is frozen.

    Args:
        backbone: ``reslayer`` or the name of a torchvision network.
        classes: Number of classes.
        weights: Weights of the backbone; see `build_backbone`.
        normalization: Input scale of those weights.

    Raises:
        InputError: A weights file was given for ``reslayer``.
    """
    if backbone == RESLAYER:
        if weights not in ("none", "default"):
            raise InputError(f"{RESLAYER} is trained from scratch: --weights {weights} cannot be used")
        return ResLayerNet(classes=classes, normalization=normalization)
    return FrozenBackboneClassifier(backbone, classes=classes, weights=weights, normalization=normalization)


def load_initial_weights(net: LandmarkNet | DetectorNet | AgeGenderNet, path: Path | None) -> dict[str, str]:
    """Load a checkpoint's weights into a network of the same architecture.

    Args:
        net: Network to change in place.
        path: Checkpoint, or None to leave the network as it is.

    Returns:
        ``{"started_from": digest of the weights}``, empty without a checkpoint.

    Raises:
        ModelError: The file is not a checkpoint, or is one of another network.
    """
    if path is None:
        return {}
    checkpoint = load_checkpoint(path)
    try:
        net.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise ModelError(f"{path} holds another network than the one to train; pass its --backbone") from error
    net.backbone.pretrained = True  # its batch statistics are as reliable as ImageNet's
    return {"started_from": checkpoint.spec.weights_sha256}


def copy_shared_layers(net: nn.Module, teacher: Path) -> None:
    """Copy the weights of a teacher's checkpoint to all layers of a student with the same name and shape."""
    own = net.state_dict()
    shared = {k: v for k, v in load_checkpoint(teacher).weights.items() if k in own and own[k].shape == v.shape}
    net.load_state_dict(shared, strict=False)
