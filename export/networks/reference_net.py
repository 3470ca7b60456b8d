"""torchvision's mobilenet_v2 at 224 px: a network that everyone knows, to measure others against."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mien.export.networks.backbones import build_backbone
from mien.export.networks.normalization import Normalization
from mien.export.networks.preprocessing import Prologue
from mien.runtime.models.spec import ModelSpec, Task

SPEC = ModelSpec(task=Task.CLASSIFY, input_size=(224, 224), outputs=("logits",), provenance={"weights": "random"})


class Yardstick(nn.Module):
    """The whole classifier, with random weights: its latency does not depend on them."""

    def __init__(self) -> None:
        super().__init__()
        self.prologue = Prologue(Normalization.IMAGENET)
        self.classifier = build_backbone("mobilenet_v2", "none")

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """uint8 (b, 224, 224, 3) to logits (b, 1000)."""
        return (self.classifier(self.prologue(image)),)


def seeded_reference_net() -> nn.Module:
    """The same random weights in every process, so that what is exported can be compared with what is not."""
    torch.manual_seed(0)
    return Yardstick().eval()
