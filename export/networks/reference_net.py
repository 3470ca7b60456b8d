"""Reference network: torchvision's mobilenet_v2 at 224 px, a common baseline for latency."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...runtime.models.spec import ModelSpec, Task
from .backbones import build_backbone
from .normalization import Normalization
from .preprocessing import Preprocessing

SPEC = ModelSpec(task=Task.CLASSIFY, input_size=(224, 224), outputs=("logits",), provenance={"weights": "random"})


class ReferenceNet(nn.Module):
    """Whole mobilenet_v2 classifier; its weights are random, as they do not affect latency."""

    def __init__(self) -> None:
        super().__init__()
        self.prologue = Preprocessing(Normalization.IMAGENET)
        self.classifier = build_backbone("mobilenet_v2", "none")

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Map images (b, 224, 224, 3) uint8 BGR to logits (b, 1000)."""
        return (self.classifier(self.prologue(image)),)


def seeded_reference_net() -> nn.Module:
    """Build the network with the same random weights in every process, so that its parity can be checked."""
    torch.manual_seed(0)
    return ReferenceNet().eval()
