"""Age and gender network: one backbone, two heads.

Age is the expected value over one bin per year, trained as a distribution (DEX, Rothe et al., ICCV workshops 2015;
label distribution learning, Gao et al., IJCAI 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .backbones import Stages
from .normalization import Normalization
from .preprocessing import Preprocessing

OUTPUTS = ("age", "female", "age_std")
WIDTH = 256
"""Channels that the heads read."""
STD_SCALE = "age_std_scale"
"""Validation metric of a checkpoint that `AgeGenderNet.std_scale` is set from."""
BINS = 101
"""One bin per year, 0 to 100."""
SIGMA_YEARS = 2.5
"""Standard deviation of the target distribution over the age bins."""
SMOOTHING = 0.05
"""Label smoothing of the gender, as at least one label in twenty is wrong."""


class AgeGenderNet(nn.Module):
    """Age and gender network for aligned faces.

    `forward` computes the outputs of the model file, `logits` the input of the losses.

    Attributes:
        std_scale: Factor that calibrates the standard deviation, so that 68 % of the ages lie within one; None for a
            network without this output.
    """

    std_scale: float | None = 1.0

    def __init__(
        self,
        backbone: str,
        *,
        weights: str = "none",
        normalization: Normalization = Normalization.IMAGENET,
    ) -> None:
        super().__init__()
        self.prologue = Preprocessing(normalization)
        self.backbone = Stages(backbone, weights=weights)
        self.neck = nn.Sequential(
            nn.Conv2d(self.backbone.channels[-1], WIDTH, 1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.3),
        )
        self.age = nn.Linear(WIDTH, BINS)
        self.female = nn.Linear(WIDTH, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Average the predictions for the face and its mirror image.

        Args:
            image: (b, h, w, 3) uint8 BGR.

        Returns:
            Age (b,) in years, probability of female (b,), and the age's standard deviation (b,) in years.
        """
        x = self.prologue(image)
        bins, female = self._heads(torch.cat([x, x.flip(3)]))
        bins, female = bins.reshape(2, -1, BINS).mean(dim=0), female.reshape(2, -1).mean(dim=0)
        outputs = (expected_age(bins), female_probability(female))
        return outputs if self.std_scale is None else (*outputs, self.std_scale * age_deviation(bins))

    def logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the input of `age_gender_losses`.

        Args:
            image: (b, h, w, 3) uint8 BGR.

        Returns:
            Age logits (b, 101) and female logits (b,).
        """
        return self._heads(self.prologue(image))

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.neck(self.backbone(x)[-1])
        return self.age(features).float(), self.female(features).float().squeeze(1)


def female_probability(logits: Tensor) -> Tensor:
    """Return the probability (b,) of female; label smoothing keeps the sigmoid short of 0 and 1, which is undone."""
    return ((torch.sigmoid(logits) - SMOOTHING) / (1 - 2 * SMOOTHING)).clamp(0, 1)


def expected_age(bins: Tensor) -> Tensor:
    """Return the expected age (b,) in years under the softmax of logits (b, 101)."""
    return bins.softmax(dim=1) @ bin_ages(bins.device)


def age_deviation(bins: Tensor) -> Tensor:
    """Return the standard deviation (b,) in years under the softmax of logits (b, 101)."""
    distance = bin_ages(bins.device) - expected_age(bins).unsqueeze(1)
    return (bins.softmax(dim=1) * distance.square()).sum(1).sqrt()


def bin_ages(device: torch.device) -> Tensor:
    """Return the age (101,) of each bin in years."""
    return torch.arange(BINS, dtype=torch.float32, device=device)
