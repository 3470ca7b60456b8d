"""Builds the networks of all tasks: empty, from a checkpoint, or initialized from one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

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
log = logging.getLogger("mien")


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


def load_initial_weights(
    net: LandmarkNet | DetectorNet | AgeGenderNet, path: Path | None, *, new_layers_only: bool = False
) -> dict[str, str]:
    """Load a checkpoint's weights into a network of the same architecture.

    Args:
        net: Network to change in place.
        path: Checkpoint, or None to leave the network as it is.
        new_layers_only: Accept a checkpoint of another architecture, and freeze the layers that they share.

    Returns:
        ``{"started_from": digest of the weights}``, empty without a checkpoint.

    Raises:
        ModelError: The file is not a checkpoint, or is one of another network.
        InputError: With `new_layers_only`, there is no checkpoint, or the networks share no layers or all of them.
    """
    if path is None:
        if new_layers_only:
            raise InputError("--new-layers-only needs --init-from CHECKPOINT, whose layers it keeps")
        return {}
    checkpoint = load_checkpoint(path)
    if new_layers_only:
        _freeze(net, copy_shared_layers(net, checkpoint.weights), path)
        return {"started_from": checkpoint.spec.weights_sha256}
    try:
        net.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise ModelError(f"{path} holds another network than the one to train; pass its --backbone") from error
    net.backbone.pretrained = True  # its batch statistics are as reliable as ImageNet's
    return {"started_from": checkpoint.spec.weights_sha256}


def copy_shared_layers(net: nn.Module, weights: Mapping[str, Tensor]) -> set[str]:
    """Copy a state dict to all layers of a network with the same name and shape; return the layers' names."""
    shared = set()
    for name, layer in net.named_modules():
        own = {f"{name}.{key}": value for key, value in layer.state_dict().items() if "." not in key}
        if own and all(key in weights and weights[key].shape == value.shape for key, value in own.items()):
            net.load_state_dict({key: weights[key] for key in own}, strict=False)
            shared.add(name)
    return shared


def _freeze(net: nn.Module, names: set[str], source: Path) -> None:
    layers = {
        name: layer for name, layer in net.named_modules() if next(layer.parameters(recurse=False), None) is not None
    }
    new = layers.keys() - names
    if not names:
        raise InputError(f"{source} shares no layers with the network to train")
    if not new:
        raise InputError(f"the network to train has no layers that {source} lacks; omit --new-layers-only")
    for name in names:
        net.get_submodule(name).requires_grad_(False)
    log.info("%d of %d layers are those of %s and stay as they are", len(layers) - len(new), len(layers), source)
