"""Landmark network: 68 points, their depth, and the presence of a face.

Each point is the expectation of its coordinates under a softmax heat map (integral regression, Sun et al., ECCV 2018;
Nibali et al., "Numerical Coordinate Regression", 2018). This gives sub-pixel coordinates, is differentiable, and needs
no arg-max in the graph. Depth and presence come from the coarsest features.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...runtime.errors import InputError
from ...runtime.values import POINTS
from .backbones import STRIDES, Stages
from .normalization import Normalization
from .preprocessing import Preprocessing

OUTPUTS = ("landmarks", "presence")
WIDTH = 64
"""Channels of the decoder."""


def separable(channels: int) -> nn.Sequential:
    """Build a depthwise 3×3 and a pointwise convolution, both batch-normalized (MobileNet, Howard et al. 2017)."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class LandmarkNet(nn.Module):
    """Landmark network: a backbone, a top-down decoder to stride 4, and three heads.

    `forward` computes the outputs of the model file, `heat_maps` the input of the losses.

    Attributes:
        dims: 3, or 2 if z is always 0.
    """

    def __init__(
        self,
        backbone: str,
        *,
        weights: str = "none",
        normalization: Normalization = Normalization.IMAGENET,
        input_size: int = 112,
        dims: int = 3,
    ) -> None:
        super().__init__()
        self.dims = dims
        self.prologue = Preprocessing(normalization)
        self.backbone = Stages(backbone, weights=weights)
        channels = self.backbone.channels
        if len(channels) < len(STRIDES):
            raise InputError(f"{backbone} ends before stride {STRIDES[-1]}; use another backbone for landmarks")
        self.lateral = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in channels)
        self.merge = nn.ModuleList(separable(WIDTH) for _ in channels[:-1])
        self.heat = nn.Conv2d(WIDTH, POINTS, 1)
        sizes = self.backbone.sizes(input_size)
        for kind, (fine, coarse) in itertools.product((np.float64, np.float32), itertools.pairwise(sizes)):
            if int(kind(coarse) * kind(fine / coarse)) != fine:  # as PyTorch and as ONNX Runtime enlarge a map
                raise InputError(f"{backbone} cannot take crops of {input_size} px; use a multiple of {STRIDES[-1]}")
        self.summary = nn.Sequential(
            nn.Conv2d(channels[-1], WIDTH, 1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(WIDTH * sizes[-1] ** 2, POINTS + 1),
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Locate the points.

        Args:
            image: (b, h, w, 3) uint8 BGR crop.

        Returns:
            Landmarks (b, 68, 3) in fractions of the crop, and the probability (b,) that the crop shows a face.
        """
        heat, depth, presence = self.heat_maps(image)
        xy = expectation(heat)
        if self.dims == 2:
            depth = torch.zeros_like(depth)
        return torch.cat([xy, depth.unsqueeze(-1)], dim=-1), torch.sigmoid(presence)

    def heat_maps(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the input of `landmark_losses`.

        Args:
            image: (b, h, w, 3) uint8 BGR crop.

        Returns:
            Heat map logits (b, 68, h/4, w/4), depths (b, 68) in fractions of the crop, and presence logits (b,).
        """
        maps = self.backbone(self.prologue(image))
        x = self.lateral[-1](maps[-1])
        for lateral, merge, skip in zip(self.lateral[-2::-1], self.merge[::-1], maps[-2::-1], strict=True):
            # By scale: given a size, the exported graph would compute it from the shape of its input.
            up = F.interpolate(x, scale_factor=skip.shape[2] / x.shape[2], mode="nearest")
            x = merge(up + lateral(skip))
        summary = self.summary(maps[-1]).float()
        return self.heat(x).float(), summary[:, :POINTS], summary[:, POINTS]


def expectation(heat: Tensor) -> Tensor:
    """Return the expected x, y (b, n, 2), in fractions of the crop, under the softmax of logits (b, n, h, w)."""
    height, width = heat.shape[2:]
    probability = heat.flatten(2).softmax(dim=2)
    return probability @ cell_centres(height, width, heat.device)


def heat_map_variance(heat: Tensor) -> Tensor:
    """Return the mean of the variances of x and y (b, n), in squared fractions of the crop, under the same softmax."""
    height, width = heat.shape[2:]
    squares = heat.flatten(2).softmax(dim=2) @ cell_centres(height, width, heat.device).square()
    return (squares - expectation(heat).square()).clamp(min=0).mean(dim=2)


def cell_centres(height: int, width: int, device: torch.device) -> Tensor:
    """Return the centres x, y (height · width, 2) of a heat map's cells, in fractions of the crop."""
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x.flatten(), grid_y.flatten()], dim=1)
