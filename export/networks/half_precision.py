"""Converts networks to float16 before exporting them."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .preprocessing import Preprocessing


def to_half_precision(net: nn.Module) -> nn.Module:
    """Convert a network to float16 in place, except for its preprocessing and outputs.

    Batch normalization is folded into the convolutions first, while both are in float32.
    """
    fold_batch_norms(net.eval())
    net.half()
    for module in net.modules():
        if isinstance(module, Preprocessing):
            module.float()
            module.out = torch.float16
    return net


def fold_batch_norms(net: nn.Module) -> None:
    """Fold batch normalizations into the convolutions that they follow in an ``nn.Sequential``, in place."""
    for module in net.modules():
        if not isinstance(module, nn.Sequential):
            continue
        layers: Any = list(module.named_children())
        for (name, layer), (following, norm) in itertools.pairwise(layers):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(layer, norm))
                setattr(module, following, nn.Identity())
