"""The networks of the textbook chapter: a frozen backbone, whole pictures of 224 px, and a new head.

Layer by layer as the chapter has them, so that parameters can be counted and compared. Any backbone that ends at stride
32 can take VGG16's place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mien.export.networks.backbones import whole_backbone
from mien.export.networks.normalization import Normalization
from mien.export.networks.preprocessing import Prologue
from mien.runtime.values import POINTS

SIZE = 224
OLDEST = 80.0
"""Years that the age branch's 1 stands for."""


class FrozenBackbone(nn.Module):
    """Prologue, frozen backbone and a head; `head_of` runs the head alone on features that are already there."""

    head: nn.Module

    def __init__(self, backbone: str, *, weights: str, normalization: Normalization) -> None:
        super().__init__()
        self.prologue = Prologue(normalization)
        self.backbone, self.channels = whole_backbone(backbone, weights=weights)
        self.backbone.requires_grad_(False)

    def features(self, image: Tensor) -> Tensor:
        """uint8 (b, h, w, 3) to the backbone's last map (b, c, h/32, w/32)."""
        features: Tensor = self.backbone(self.prologue(image))
        return features

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Switch to training mode, but for the frozen backbone's statistics and dropout."""
        super().train(mode)
        self.backbone.eval()
        return self

    def head_of(self, features: Tensor) -> Tensor:
        """What the head says of features (b, c, h/32, w/32)."""
        out: Tensor = self.head(features)
        return out


class ChapterClassifier(FrozenBackbone):
    """One logit for two classes, a logit each for more; `forward` returns probabilities (b, classes)."""

    def __init__(
        self,
        backbone: str,
        *,
        classes: int = 2,
        weights: str = "none",
        normalization: Normalization = Normalization.IMAGENET,
    ) -> None:
        super().__init__(backbone, weights=weights, normalization=normalization)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(self.channels, 128),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(128, 1 if classes == 2 else classes),
        )

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Probabilities."""
        return (probabilities(self.head_of(self.features(image)).float()),)


class ChapterLandmarkNet(FrozenBackbone):
    """`forward` returns landmarks (b, 68, 3) as fractions of the picture, z 0. There is no presence."""

    def __init__(
        self, backbone: str, *, weights: str = "none", normalization: Normalization = Normalization.IMAGENET
    ) -> None:
        super().__init__(backbone, weights=weights, normalization=normalization)
        self.head = nn.Sequential(
            nn.Conv2d(self.channels, 512, kernel_size=3),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2048, 512),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(512, 2 * POINTS),
            nn.Sigmoid(),
        )

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Landmarks."""
        xy = self.head_of(self.features(image)).float().reshape(-1, POINTS, 2)
        return (torch.cat([xy, torch.zeros_like(xy[..., :1])], dim=2),)


class ChapterAgeGenderNet(FrozenBackbone):
    """`forward` returns age (b,) in years and female (b,) as a probability."""

    def __init__(
        self, backbone: str, *, weights: str = "none", normalization: Normalization = Normalization.IMAGENET
    ) -> None:
        super().__init__(backbone, weights=weights, normalization=normalization)
        self.head = AgeGenderHead(self.channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Age and probability."""
        branches = self.head_of(self.features(image)).float()
        return OLDEST * branches[:, 0], branches[:, 1]


class AgeGenderHead(nn.Module):
    """A shared trunk and two sigmoid branches: age / 80 and female, as columns (b, 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, 512, kernel_size=3),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2048, 512),
            nn.ReLU(),
            nn.Dropout(0.4),
            nn.Linear(512, 128),
            nn.ReLU(),
            nn.Dropout(0.4),
            nn.Linear(128, 64),
            nn.ReLU(),
        )
        self.age = nn.Sequential(nn.Linear(64, 1), nn.Sigmoid())
        self.female = nn.Sequential(nn.Linear(64, 1), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """Both branches."""
        shared = self.trunk(features)
        return torch.cat([self.age(shared), self.female(shared)], dim=1)


def probabilities(logits: Tensor) -> Tensor:
    """Probabilities (b, classes) of one logit (b, 1) for the second of two classes, or of a logit for each."""
    if logits.shape[1] == 1:
        second = torch.sigmoid(logits)
        return torch.cat([1 - second, second], dim=1)
    return logits.softmax(dim=1)
