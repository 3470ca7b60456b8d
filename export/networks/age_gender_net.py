"""The age and gender model: one backbone, two branches.

Age is the expected value over a bin a year, trained as a distribution (DEX, Rothe et al., ICCV workshops 2015; label
distribution learning, Gao et al., IJCAI 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mien.export.networks.backbones import Stages
from mien.export.networks.normalization import Normalization
from mien.export.networks.preprocessing import Prologue

OUTPUTS = ("age", "female")
BINS = 101
"""A bin a year, 0 to 100."""
SIGMA_YEARS = 2.5
SMOOTHING = 0.05
"""Gender labels are wrong in one of twenty faces or more: certainty is not asked for."""


class AgeGenderNet(nn.Module):
    """`forward` returns age (b,) in years and female (b,) as a probability; `logits` what training needs."""

    def __init__(
        self,
        backbone: str,
        *,
        weights: str = "none",
        normalization: Normalization = Normalization.IMAGENET,
        width: int = 256,
    ) -> None:
        super().__init__()
        self.prologue = Prologue(normalization)
        self.backbone = Stages(backbone, weights=weights)
        self.neck = nn.Sequential(
            nn.Conv2d(self.backbone.channels[-1], width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.3),
        )
        self.age = nn.Linear(width, BINS)
        self.female = nn.Linear(width, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Age and probability, of the mean over the face and its mirror image."""
        x = self.prologue(image)
        bins, female = self._heads(torch.cat([x, x.flip(3)]))
        bins, female = bins.reshape(2, -1, BINS).mean(dim=0), female.reshape(2, -1).mean(dim=0)
        # Trained towards smoothed labels the sigmoid stays short of certainty; this takes the smoothing back.
        probability = (torch.sigmoid(female) - SMOOTHING) / (1 - 2 * SMOOTHING)
        return expected_age(bins), probability.clamp(0, 1)

    def logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (b, h, w, 3) to logits of the ages (b, 101) and of female (b,)."""
        return self._heads(self.prologue(image))

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.neck(self.backbone(x)[-1])
        return self.age(features).float(), self.female(features).float().squeeze(1)


def expected_age(bins: Tensor) -> Tensor:
    """Years (b,) from logits (b, 101)."""
    return bins.softmax(dim=1) @ years(bins.device)


def years(device: torch.device) -> Tensor:
    """The age (101,) that each bin stands for."""
    return torch.arange(BINS, dtype=torch.float32, device=device)
