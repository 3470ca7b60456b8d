"""Single-shot, anchor-free face detector that decodes its boxes in the graph.

A feature pyramid (Lin et al., CVPR 2017) over strides 8, 16 and 32 with one head shared by all levels, as in FCOS
(Tian et al., ICCV 2019). Each cell predicts a score, the offset of the box's centre and the logarithm of its size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .backbones import Stages
from .landmark_net import separable
from .normalization import Normalization
from .preprocessing import Preprocessing

OUTPUTS = ("boxes", "scores")
WIDTH = 48
"""Channels of each pyramid level."""
LEVELS = (8, 16, 32)
"""Strides of the pyramid levels, in px."""
TYPICAL_SIZE = 3.0
"""Side of a box with a predicted log size of 0, in strides of its level."""


class DetectorNet(nn.Module):
    """Face detector.

    `forward` computes the outputs of the model file, `raw` the input of the losses.
    """

    def __init__(
        self,
        backbone: str,
        *,
        weights: str = "none",
        normalization: Normalization = Normalization.IMAGENET,
    ) -> None:
        super().__init__()
        self.prologue = Preprocessing(normalization)
        self.backbone = Stages(backbone, weights=weights, depth=3)
        _, fine, middle = self.backbone.channels
        self.coarse = nn.Sequential(
            nn.Conv2d(middle, middle, 3, stride=2, padding=1, groups=middle, bias=False),
            nn.BatchNorm2d(middle),
            nn.Conv2d(middle, 2 * middle, 1, bias=False),
            nn.BatchNorm2d(2 * middle),
            nn.ReLU(inplace=True),
            separable(2 * middle),
        )
        self.lateral = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in (fine, middle, 2 * middle))
        self.merge = nn.ModuleList(separable(WIDTH) for _ in LEVELS)
        self.head = nn.Sequential(separable(WIDTH), nn.Conv2d(WIDTH, 5, 1))
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.constant_(last.bias[:1], -4.0)  # few cells hold a face (focal loss, section 4.1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Detect faces.

        Args:
            image: (b, h, w, 3) uint8 BGR; h and w are multiples of 32.

        Returns:
            Boxes (b, n, 4), xyxy in px of the input, and scores (b, n).
        """
        logits, boxes = self.raw(image)
        return boxes, torch.sigmoid(logits)

    def raw(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the input of `detector_losses`.

        Args:
            image: (b, h, w, 3) uint8 BGR; h and w are multiples of 32.

        Returns:
            Score logits (b, n) and boxes (b, n, 4), xyxy in px of the input; the finest level comes first.
        """
        return self.predict(self.pyramid(image))

    def raw_and_pyramid(self, image: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Compute the input of `distillation_losses`: the results of `raw` and `pyramid`."""
        levels = self.pyramid(image)
        return *self.predict(levels), levels

    def pyramid(self, image: Tensor) -> list[Tensor]:
        """Compute the features (b, WIDTH, h / stride, w / stride) of each level."""
        _, fine, middle = self.backbone(self.prologue(image))
        levels = [lateral(x) for lateral, x in zip(self.lateral, (fine, middle, self.coarse(middle)), strict=True)]
        levels[1] = levels[1] + F.interpolate(levels[2], scale_factor=2.0, mode="nearest")
        levels[0] = levels[0] + F.interpolate(levels[1], scale_factor=2.0, mode="nearest")
        return levels

    def predict(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the result of `raw` from the features of each level."""
        logits, boxes = [], []
        for merge, level, stride in zip(self.merge, levels, LEVELS, strict=True):
            rows = self.head(merge(level)).float()
            logits.append(rows[:, 0].flatten(1))
            boxes.append(decode(rows[:, 1:], stride))
        return torch.cat(logits, dim=1), torch.cat(boxes, dim=1)


def decode(rows: Tensor, stride: int) -> Tensor:
    """Decode one level's predictions.

    Args:
        rows: Predictions (b, 4, h, w): centre offsets x and y, and logarithms of width and height, in strides.
        stride: Stride of the level in px.

    Returns:
        Boxes (b, h · w, 4), xyxy in px.
    """
    height, width = rows.shape[2:]
    x = torch.arange(width, device=rows.device, dtype=rows.dtype) + 0.5
    y = (torch.arange(height, device=rows.device, dtype=rows.dtype) + 0.5).unsqueeze(1)
    centre_x, centre_y = rows[:, 0] + x, rows[:, 1] + y
    half_w = rows[:, 2].clamp(max=4.0).exp() * (TYPICAL_SIZE / 2)
    half_h = rows[:, 3].clamp(max=4.0).exp() * (TYPICAL_SIZE / 2)
    corners = [centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h]
    return torch.stack([c.flatten(1) for c in corners], dim=2) * stride
