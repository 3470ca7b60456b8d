"""Networks of the textbook chapter: a frozen backbone and a new head, on whole images of 224 px.

They follow the chapter layer by layer, so that parameter counts can be compared. Any backbone that ends at stride 32
can replace VGG16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...runtime.values import POINTS
from .backbones import whole_backbone
from .normalization import Normalization
from .preprocessing import Preprocessing

RECIPE = "frozen-backbone"
"""Value of ``recipe`` in the configuration of their checkpoints."""
SIZE = 224
"""Side of the input in px."""
OLDEST = 80.0
"""Age in years at which the age branch returns 1."""


class FrozenBackbone(nn.Module):
    """Network with a frozen backbone and a trainable head.

    Attributes:
        head: Trainable layers; set by each subclass.
        channels: Number of channels of the backbone's last feature map.
    """

    head: nn.Module

    def __init__(self, backbone: str, *, weights: str, normalization: Normalization) -> None:
        super().__init__()
        self.prologue = Preprocessing(normalization)
        self.backbone, self.channels = whole_backbone(backbone, weights=weights)
        self.backbone.requires_grad_(False)

    def features(self, image: Tensor) -> Tensor:
        """Map images (b, h, w, 3) uint8 BGR to the backbone's last feature map (b, c, h/32, w/32)."""
        features: Tensor = self.backbone(self.prologue(image))
        return features

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Switch the head to training mode; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def head_of(self, features: Tensor) -> Tensor:
        """Run the head alone on precomputed features (b, c, h/32, w/32)."""
        out: Tensor = self.head(features)
        return out


class FrozenBackboneClassifier(FrozenBackbone):
    """Classifier with one logit for two classes, else one logit per class."""

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
        """Map images (b, h, w, 3) uint8 BGR to probabilities (b, classes)."""
        return (probabilities(self.head_of(self.features(image)).float()),)


class FrozenBackboneLandmarkNet(FrozenBackbone):
    """Landmark network for 68 points, without depth or presence."""

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
        """Map images (b, h, w, 3) uint8 BGR to landmarks (b, 68, 3) in fractions of the image; z is 0."""
        xy = self.head_of(self.features(image)).float().reshape(-1, POINTS, 2)
        return (torch.cat([xy, torch.zeros_like(xy[..., :1])], dim=2),)


class FrozenBackboneAgeGenderNet(FrozenBackbone):
    """Age and gender network."""

    def __init__(
        self, backbone: str, *, weights: str = "none", normalization: Normalization = Normalization.IMAGENET
    ) -> None:
        super().__init__(backbone, weights=weights, normalization=normalization)
        self.head = AgeGenderHead(self.channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (b, h, w, 3) uint8 BGR to ages (b,) in years and probabilities of female (b,)."""
        branches = self.head_of(self.features(image)).float()
        return OLDEST * branches[:, 0], branches[:, 1]


class AgeGenderHead(nn.Module):
    """Shared trunk and two sigmoid branches, for age / 80 and female."""

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
        """Map features (b, c, 7, 7) to columns (b, 2): age / 80 and female."""
        shared = self.trunk(features)
        return torch.cat([self.age(shared), self.female(shared)], dim=1)


def probabilities(logits: Tensor) -> Tensor:
    """Turn logits into probabilities (b, classes).

    Args:
        logits: Logits (b, 1) of the second of two classes, or (b, classes).
    """
    if logits.shape[1] == 1:
        second = torch.sigmoid(logits)
        return torch.cat([1 - second, second], dim=1)
    return logits.softmax(dim=1)
