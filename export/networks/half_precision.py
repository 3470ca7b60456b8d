"""Smaller numbers: half precision by exporting the half network, int8 by calibrating on real pictures."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mien.export.networks.preprocessing import Prologue


def halved(net: nn.Module) -> nn.Module:
    """Turn a network, in place, into one that computes in float16 between a float32 prologue and float32 outputs.

    Batch normalization is folded into the convolutions first, while they are still float32.
    """
    fold_batch_norms(net.eval())
    net.half()
    for module in net.modules():
        if isinstance(module, Prologue):
            module.float()
            module.out = torch.float16
    return net


def fold_batch_norms(net: nn.Module) -> None:
    """Fold each batch normalization behind a convolution of the same ``nn.Sequential`` into it, in place."""
    for module in net.modules():
        if not isinstance(module, nn.Sequential):
            continue
        layers: Any = list(module.named_children())
        for (name, layer), (following, norm) in itertools.pairwise(layers):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(layer, norm))
                setattr(module, following, nn.Identity())
