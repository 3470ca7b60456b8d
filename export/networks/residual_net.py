"""Small residual network, trained from scratch, built from the simplest residual block."""

from __future__ import annotations

from torch import Tensor, nn

from .frozen_backbone_nets import probabilities
from .normalization import Normalization
from .preprocessing import Preprocessing

WIDTHS = (32, 64, 128, 256)


class ResLayer(nn.Module):
    """Residual block: a convolution and ReLU added to the input (He et al., CVPR 2016, eq. 1)."""

    def __init__(self, channels: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to the same shape."""
        out: Tensor = self.conv(x) + x
        return out


class ResLayerNet(nn.Module):
    """Classifier of four stages, each of convolution, batch normalization, `ResLayer` and pooling."""

    def __init__(self, *, classes: int = 2, normalization: Normalization = Normalization.IMAGENET) -> None:
        super().__init__()
        self.prologue = Preprocessing(normalization)
        self.stages = nn.Sequential(
            *(_stage(narrow, wide) for narrow, wide in zip((3, *WIDTHS), WIDTHS, strict=False)),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 1 if classes == 2 else classes)
        )

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Map images (b, h, w, 3) uint8 BGR to probabilities (b, classes)."""
        return (probabilities(self.logits(image)),)

    def logits(self, image: Tensor) -> Tensor:
        """Map images (b, h, w, 3) uint8 BGR to logits: (b, 1) for two classes, else (b, classes)."""
        out: Tensor = self.head(self.stages(self.prologue(image)))
        return out.float()


def _stage(narrow: int, wide: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(narrow, wide, 3, padding=1, bias=False),
        nn.BatchNorm2d(wide),
        nn.ReLU(),
        ResLayer(wide),
        nn.BatchNorm2d(wide),
        nn.MaxPool2d(2),
    )
