"""torchvision networks by name, with pretrained weights, divided into stages of stride 4, 8, 16 and 32."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from ...runtime.errors import InputError
from .pretrained import fitting, read_state_dict

STRIDES = (4, 8, 16, 32)
FUSED_WIDTH = 48


@dataclass(frozen=True, slots=True)
class Architecture:
    """torchvision model and its division into stages.

    Attributes:
        build: Torchvision's constructor.
        ends: For each of `STRIDES`, one past the index of the last layer at that stride.
        dropped: Indices of residual blocks to leave out. Each block changes its input only a little, so a network
            fine-tuned without it loses little (Veit et al., "Residual networks behave like ensembles", 2016).
        adapt: Replaces some layers after the pretrained weights are loaded. `ends` and `dropped` refer to the result.
    """

    build: Callable[..., nn.Module]
    ends: tuple[int, ...]
    dropped: frozenset[int] = frozenset()
    adapt: Callable[[nn.Sequential], nn.Sequential] | None = None

    @property
    def is_reduced(self) -> bool:
        """Whether some of torchvision's layers are left out or replaced."""
        return bool(self.dropped) or self.adapt is not None


def plain_to_stride_4(layers: nn.Sequential) -> nn.Sequential:
    """Replace MobileNetV2's layers up to stride 4, a third of its time, by faster plain convolutions."""
    return nn.Sequential(_halve(3, 16), _fused(16, 24), *layers[4:])


def plain_to_stride_8(layers: nn.Sequential) -> nn.Sequential:
    """Replace MobileNetV2's layers up to stride 8, half of its time, by faster plain convolutions."""
    return nn.Sequential(_halve(3, 16), _halve(16, 32), _fused(32, 32), *layers[5:])


def _halve(channels: int, out: int) -> nn.Module:
    return Conv2dNormActivation(channels, out, stride=2, activation_layer=nn.ReLU6)


def _fused(channels: int, out: int) -> nn.Module:
    """Build a fused inverted residual of stride 2, without shortcut (EfficientNetV2, Tan and Le, ICML 2021)."""
    return nn.Sequential(
        _halve(channels, FUSED_WIDTH), Conv2dNormActivation(FUSED_WIDTH, out, 1, activation_layer=None)
    )


ARCHITECTURES: dict[str, Architecture] = {
    "mobilenet_v2": Architecture(torchvision.models.mobilenet_v2, (4, 7, 14, 17)),
    # Without one block of 24 and one of 160 channels: a fifth faster and a fifth smaller.
    "mobilenet_v2_lean": Architecture(torchvision.models.mobilenet_v2, (4, 7, 14, 17), frozenset({3, 16})),
    # For the detector: ends at stride 16 with 64 channels.
    "mobilenet_v2_short": Architecture(torchvision.models.mobilenet_v2, (4, 7, 11), frozenset({3, 6})),
    # These two with plain convolutions first.
    "mobilenet_v2_lean_plain8": Architecture(
        torchvision.models.mobilenet_v2, (2, 5, 12, 15), frozenset({14}), adapt=plain_to_stride_8
    ),
    "mobilenet_v2_short_plain8": Architecture(
        torchvision.models.mobilenet_v2, (2, 5, 9), frozenset({4}), adapt=plain_to_stride_8
    ),
    "mobilenet_v2_short_plain4": Architecture(
        torchvision.models.mobilenet_v2, (2, 5, 9), frozenset({4}), adapt=plain_to_stride_4
    ),
    "mobilenet_v3_small": Architecture(torchvision.models.mobilenet_v3_small, (2, 4, 9, 12)),
    "mobilenet_v3_large": Architecture(torchvision.models.mobilenet_v3_large, (4, 7, 13, 16)),
    "resnet18": Architecture(torchvision.models.resnet18, (5, 6, 7, 8)),
    "vgg16": Architecture(torchvision.models.vgg16, (16, 23, 30, 31)),
}


def layers_of(model: nn.Module) -> nn.Sequential:
    """Return the convolutional part of a torchvision model as a flat sequence."""
    if isinstance(model, torchvision.models.ResNet):
        return nn.Sequential(*list(model.children())[:-2])
    features = model.features
    assert isinstance(features, nn.Sequential)
    return features


def architecture(name: str) -> Architecture:
    """Look up a backbone by name.

    Raises:
        InputError: The name is unknown.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise InputError(f"unknown backbone {name!r}; known: {', '.join(ARCHITECTURES)}") from None


def build_backbone(name: str, weights: str) -> nn.Module:
    """Build a complete torchvision model.

    Args:
        name: Key of `ARCHITECTURES`.
        weights: ``default`` (torchvision's ImageNet weights, downloaded once), ``none``, or a file for
            `read_state_dict`, whose classifier may have any number of classes.

    Raises:
        InputError: The name is unknown, the download failed, or the file does not fit the model.
    """
    build = architecture(name).build
    if weights == "none":
        return build(weights=None)
    if weights == "default":
        try:
            with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
                return build(weights="DEFAULT")
        except (URLError, OSError, RuntimeError) as error:  # RuntimeError: the download's hash is wrong
            raise InputError(
                f"the ImageNet weights of {name} cannot be downloaded ({error}); "
                "download them on another machine and pass --weights FILE, or train from scratch with --weights none"
            ) from error
    model = build(weights=None)
    _load(model, name, Path(weights))
    return model


def _load(model: nn.Module, name: str, path: Path) -> None:
    """Load the convolutional part of a model from a file; the classifier, which is unused, stays as it is.

    Raises:
        InputError: The file cannot be read, or holds the weights of another network.
    """
    state = read_state_dict(path)
    try:
        model.load_state_dict(fitting(state, _convolutional(model)), strict=False)
    except ValueError as error:
        others = [other for other, known in ARCHITECTURES.items() if not known.is_reduced and _fits(state, other)]
        advice = f"use --backbone {' or '.join(others)}" if others else f"use weights of torchvision's {name}"
        raise InputError(f"{path} does not hold the weights of {name} ({error}); {advice}") from error


def _convolutional(model: nn.Module) -> dict[str, Tensor]:
    heads = tuple(f"{name}." for name, _ in model.named_children() if name in ("classifier", "fc"))
    return {key: value for key, value in model.state_dict().items() if not key.startswith(heads)}


def _fits(state: Mapping[str, Tensor], name: str) -> bool:
    with torch.device("meta"):
        model = ARCHITECTURES[name].build(weights=None)
    try:
        return bool(fitting(state, _convolutional(model)))
    except ValueError:
        return False


def reverse_input_channels(model: nn.Module) -> None:
    """Adapt a network trained on RGB to BGR, by reversing the input channels of the first convolution."""
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        first.weight.copy_(first.weight.flip(1).clone())


def whole_backbone(name: str, *, weights: str) -> tuple[nn.Sequential, int]:
    """Build all convolutional layers of a torchvision model, for BGR input.

    Args:
        name: Key of `ARCHITECTURES`.
        weights: See `build_backbone`.

    Returns:
        The layers in evaluation mode, and the number of channels of the last feature map.

    Raises:
        InputError: See `build_backbone`; or the backbone is a reduced one, which has no whole.
    """
    if architecture(name).is_reduced:
        whole = [other for other, known in ARCHITECTURES.items() if not known.is_reduced]
        raise InputError(
            f"a network on a whole, frozen backbone cannot use {name}, which is reduced; "
            f"use --backbone {', '.join(whole[:-1])} or {whole[-1]}"
        )
    model = build_backbone(name, weights)
    if weights != "none":
        reverse_input_channels(model)
    layers = layers_of(model).eval()
    with torch.no_grad():
        return layers, int(layers(torch.zeros(1, 3, 64, 64)).shape[1])


class Stages(nn.Module):
    """Backbone that returns its feature maps at the first `depth` of the strides 4, 8, 16 and 32.

    With pretrained weights, batch normalization stays in evaluation mode, since small batches would spoil statistics
    gathered on a million images.

    Attributes:
        stages: Layers up to each stride.
        pretrained: Whether all layers have trained weights, and batch normalization stays in evaluation mode.
        channels: Number of channels of each feature map.
    """

    def __init__(self, name: str, *, weights: str = "none", depth: int = 4) -> None:
        super().__init__()
        model = build_backbone(name, weights)
        if weights != "none":
            reverse_input_channels(model)
        layers = layers_of(model)
        cut = architecture(name)
        if cut.adapt is not None:
            layers = cut.adapt(layers)
        ends = cut.ends[:depth]
        starts = (0, *ends[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(*(layers[i] for i in range(a, b) if i not in cut.dropped))
            for a, b in zip(starts, ends, strict=True)
        )
        self.pretrained = weights != "none" and cut.adapt is None
        self.channels = tuple(m.shape[1] for m in self._maps_of_blank(64))

    def train(self, mode: bool = True) -> Stages:
        """Switch to training mode, except for pretrained batch normalization."""
        super().train(mode)
        if self.pretrained:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (b, 3, h, w) to feature maps of stride 4, 8, … (b, c, h/stride, w/stride)."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def sizes(self, input_size: int) -> list[int]:
        """Return the side of each feature map for a square input, as some networks round down and others up."""
        return [m.shape[2] for m in self._maps_of_blank(input_size)]

    def _maps_of_blank(self, input_size: int) -> list[Tensor]:
        training = self.training
        self.eval()
        with torch.no_grad():
            maps: list[Tensor] = self(torch.zeros(1, 3, input_size, input_size))
        self.train(training)
        return maps
