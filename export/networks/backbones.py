"""torchvision networks by name, their pretrained weights, and their cut into stages of stride 4, 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from mien.runtime.errors import InputError, ModelError

STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Architecture:
    """A torchvision model and where its layers are cut.

    ends: for each of `STRIDES`, the index behind the last layer that still runs at that stride.
    dropped: residual blocks left out. They change their input little, so a network fine-tuned without one
    loses little (Veit et al., "Residual networks behave like ensembles", 2016).
    """

    build: Callable[..., nn.Module]
    ends: tuple[int, ...]
    dropped: frozenset[int] = frozenset()


ARCHITECTURES: dict[str, Architecture] = {
    "mobilenet_v2": Architecture(torchvision.models.mobilenet_v2, (4, 7, 14, 17)),
    # A fifth faster and a fifth smaller: without one block of 24 and one of 160 channels.
    "mobilenet_v2_lean": Architecture(torchvision.models.mobilenet_v2, (4, 7, 14, 17), frozenset({3, 16})),
    # For a detector: ends at stride 16 with 64 channels.
    "mobilenet_v2_short": Architecture(torchvision.models.mobilenet_v2, (4, 7, 11), frozenset({3, 6})),
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
    """Look a backbone up.

    Raises:
        InputError: an unknown name; the known ones are listed.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise InputError(f"unknown backbone {name!r}; known: {', '.join(ARCHITECTURES)}") from None


def build_backbone(name: str, weights: str) -> nn.Module:
    """Build a whole torchvision model.

    weights: ``default`` (torchvision's ImageNet weights, downloaded once), ``none``, or the path of a
    state dict (``.safetensors``, ``.pt``, ``.pth``).

    Raises:
        InputError: an unknown name, no network for ``default``, or a file that does not fit.
    """
    build = architecture(name).build
    if weights == "none":
        return build(weights=None)
    if weights == "default":
        try:
            return build(weights="DEFAULT")
        except (URLError, OSError, RuntimeError) as error:  # RuntimeError: what came has another hash
            raise InputError(
                f"the ImageNet weights of {name} cannot be downloaded ({error}); "
                "fetch them elsewhere and pass --weights FILE, or train from scratch with --weights none"
            ) from error
    model = build(weights=None)
    state = read_state_dict(Path(weights))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{weights} does not hold the weights of {name}, all of them and no others") from error
    return model


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a bare state dict as float32 tensors.

    Raises:
        InputError: missing, or neither safetensors nor a state dict.
    """
    if not path.is_file():
        raise InputError(f"no weights file {path}; --weights takes default, none or a .safetensors/.pt file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    except Exception as error:  # two libraries, each with its own tree; all mean the same here
        raise InputError(f"{path} is not a state dict ({type(error).__name__})") from error


def reverse_input_channels(model: nn.Module) -> None:
    """Make a network trained on RGB take BGR: its first convolution's input channels change places."""
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    if first.in_channels != 3:
        raise ModelError(f"the first convolution takes {first.in_channels} channels, wanted 3")
    with torch.no_grad():
        first.weight.copy_(first.weight.flip(1).clone())


def whole_backbone(name: str, *, weights: str) -> tuple[nn.Sequential, int]:
    """All convolutional layers of a torchvision model, taking BGR, and the channels of their last map."""
    model = build_backbone(name, weights)
    if weights != "none":
        reverse_input_channels(model)
    layers = layers_of(model).eval()
    with torch.no_grad():
        return layers, int(layers(torch.zeros(1, 3, 64, 64)).shape[1])


class Stages(nn.Module):
    """A backbone that returns its feature maps at the first `depth` of the strides 4, 8, 16 and 32.

    With pretrained weights its batch normalization stays in evaluation mode: small batches would spoil statistics
    that were gathered on a million images.
    """

    def __init__(self, name: str, *, weights: str = "none", depth: int = 4) -> None:
        super().__init__()
        model = build_backbone(name, weights)
        if weights != "none":
            reverse_input_channels(model)
        layers = layers_of(model)
        cut = architecture(name)
        ends = cut.ends[:depth]
        starts = (0, *ends[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(*(layers[i] for i in range(a, b) if i not in cut.dropped))
            for a, b in zip(starts, ends, strict=True)
        )
        self.pretrained = weights != "none"
        self.channels = self._measure_channels()

    def train(self, mode: bool = True) -> Stages:
        """Switch to training mode, but for pretrained statistics."""
        super().train(mode)
        if self.pretrained:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        """(b, 3, h, w) to feature maps of stride 4, 8, …"""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def last_size(self, input_size: int) -> int:
        """Side of the last map for a square input: some networks round down, others up."""
        training = self.training
        self.eval()
        with torch.no_grad():
            side = int(self(torch.zeros(1, 3, input_size, input_size))[-1].shape[2])
        self.train(training)
        return side

    def _measure_channels(self) -> tuple[int, ...]:
        training = self.training
        self.eval()
        with torch.no_grad():
            channels = tuple(m.shape[1] for m in self(torch.zeros(1, 3, 64, 64)))
        self.train(training)
        return channels
