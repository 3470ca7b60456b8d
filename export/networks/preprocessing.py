"""The first lines of every exported graph: from the raw picture to what a backbone expects."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mien.export.networks.normalization import Normalization

# BGR, on the scale 0..255.
_CONSTANTS: dict[Normalization, tuple[list[float], list[float]]] = {
    Normalization.IMAGENET: (
        [0.406 * 255, 0.456 * 255, 0.485 * 255],
        [0.225 * 255, 0.224 * 255, 0.229 * 255],
    ),
    Normalization.SYMMETRIC: ([127.5] * 3, [127.5] * 3),
}


class Prologue(nn.Module):
    """uint8 (b, h, w, 3) BGR to normalised (b, 3, h, w) BGR; computed in float32, given as `out`.

    Cast comes before Transpose, because TensorRT allows uint8 inputs no other layer; the copy after the
    transpose keeps pooling layers from being exported as gathers.
    """

    def __init__(self, normalization: Normalization) -> None:
        super().__init__()
        mean, std = _CONSTANTS[normalization]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("inverse_std", 1 / torch.tensor(std).view(1, 3, 1, 1))
        self.out = torch.float32
        self.mean: Tensor
        self.inverse_std: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        x = image.to(self.mean.dtype).permute(0, 3, 1, 2).contiguous()
        return ((x - self.mean) * self.inverse_std).to(self.out)
