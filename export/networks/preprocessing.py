"""First layer of every network, which maps raw pixels to the backbone's input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .normalization import Normalization

# BGR, on the scale 0..255.
_MEAN_AND_STD: dict[Normalization, tuple[list[float], list[float]]] = {
    Normalization.IMAGENET: (
        [0.406 * 255, 0.456 * 255, 0.485 * 255],
        [0.225 * 255, 0.224 * 255, 0.229 * 255],
    ),
    Normalization.SYMMETRIC: ([127.5] * 3, [127.5] * 3),
}


class Preprocessing(nn.Module):
    """Layer that casts, transposes and normalizes images, so that model files take raw uint8 pixels.

    The cast comes before the transpose because TensorRT accepts uint8 inputs in no other layer. The copy after the
    transpose keeps pooling layers from being exported as gathers. Networks call this layer `prologue`; the name occurs
    in the keys, and thus in the digests, of the shipped checkpoints.

    Attributes:
        out: Type of the result; computation is in float32.
    """

    def __init__(self, normalization: Normalization) -> None:
        super().__init__()
        mean, std = _MEAN_AND_STD[normalization]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("inverse_std", 1 / torch.tensor(std).view(1, 3, 1, 1))
        self.out = torch.float32
        self.mean: Tensor
        self.inverse_std: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """Map images (b, h, w, 3) uint8 BGR to (b, 3, h, w) normalized BGR."""
        x = image.to(self.mean.dtype).permute(0, 3, 1, 2).contiguous()
        return ((x - self.mean) * self.inverse_std).to(self.out)
