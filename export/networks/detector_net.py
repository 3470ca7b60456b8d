"""The face detector: one shot, no anchors, boxes decoded in the graph.

A feature pyramid (Lin et al., CVPR 2017) over strides 8, 16 and 32 with one head shared by all levels, as in
FCOS (Tian et al., ICCV 2019). Each cell gives a score, an offset of the box's centre and the logarithm of its size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mien.export.networks.backbones import Stages
from mien.export.networks.landmark_net import separable
from mien.export.networks.normalization import Normalization
from mien.export.networks.preprocessing import Prologue

OUTPUTS = ("boxes", "scores")
LEVELS = (8, 16, 32)
"""Strides of the cells that can hold a face, in px."""
TYPICAL_SIZE = 3.0
"""Side of a face over the stride of its level where the predicted log size is 0."""


class DetectorNet(nn.Module):
    """`forward` returns boxes (b, n, 4) xyxy in px of the input and scores (b, n); `raw` what training needs."""

    def __init__(
        self,
        backbone: str,
        *,
        weights: str = "none",
        normalization: Normalization = Normalization.IMAGENET,
        width: int = 48,
    ) -> None:
        super().__init__()
        self.prologue = Prologue(normalization)
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
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in (fine, middle, 2 * middle))
        self.merge = nn.ModuleList(separable(width) for _ in LEVELS)
        self.head = nn.Sequential(separable(width), nn.Conv2d(width, 5, 1))
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.constant_(last.bias[:1], -4.0)  # at first hardly any cell holds a face (focal loss, section 4.1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Decoded boxes and scores."""
        logits, boxes = self.raw(image)
        return boxes, torch.sigmoid(logits)

    def raw(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (b, h, w, 3), h and w multiples of 32, to score logits (b, n) and boxes (b, n, 4), fine to coarse."""
        _, fine, middle = self.backbone(self.prologue(image))
        levels = [lateral(x) for lateral, x in zip(self.lateral, (fine, middle, self.coarse(middle)), strict=True)]
        levels[1] = levels[1] + F.interpolate(levels[2], scale_factor=2.0, mode="nearest")
        levels[0] = levels[0] + F.interpolate(levels[1], scale_factor=2.0, mode="nearest")
        logits, boxes = [], []
        for merge, level, stride in zip(self.merge, levels, LEVELS, strict=True):
            rows = self.head(merge(level)).float()
            logits.append(rows[:, 0].flatten(1))
            boxes.append(decode(rows[:, 1:], stride))
        return torch.cat(logits, dim=1), torch.cat(boxes, dim=1)


def decode(rows: Tensor, stride: int) -> Tensor:
    """Offsets and log sizes (b, 4, h, w) of one level to boxes (b, h · w, 4), xyxy px."""
    height, width = rows.shape[2:]
    x = torch.arange(width, device=rows.device, dtype=rows.dtype) + 0.5
    y = (torch.arange(height, device=rows.device, dtype=rows.dtype) + 0.5).unsqueeze(1)
    centre_x, centre_y = rows[:, 0] + x, rows[:, 1] + y
    half_w = rows[:, 2].clamp(max=4.0).exp() * (TYPICAL_SIZE / 2)
    half_h = rows[:, 3].clamp(max=4.0).exp() * (TYPICAL_SIZE / 2)
    corners = [centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h]
    return torch.stack([c.flatten(1) for c in corners], dim=2) * stride
