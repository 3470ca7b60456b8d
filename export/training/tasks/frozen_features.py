"""Features of a frozen backbone, computed once, so that an epoch of its head takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ....runtime.values import Image
from ....runtime.vision.resize import resized
from ...networks.frozen_backbone_nets import FrozenBackbone
from ..config import ProgressCallback, no_progress
from ..pictures import read_training_image

BATCH = 16


def compute_features(
    net: FrozenBackbone,
    files: Sequence[Path],
    *,
    size: int,
    mirrored: bool = False,
    reduce: Callable[[Tensor], Tensor] | None = None,
    read: Callable[[Path], Image] = read_training_image,
    progress: ProgressCallback = no_progress,
) -> Tensor:
    """Compute the backbone's features of whole images.

    Args:
        net: Network whose backbone to run.
        files: Images to read.
        size: Side in px to resize images to.
        mirrored: Mirror the images first.
        reduce: First layer of the head if it pools its input, which reduces memory by a factor of fifty.
        read: Reads an image.
        progress: Called after each batch.

    Returns:
        Features (n, c, h, w) float32.

    Raises:
        InputError: An image cannot be read; the message names it.
    """
    parts = []
    net.eval()
    device = next(net.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(files), BATCH):
            images = [torch.from_numpy(resized(read(f), size)) for f in files[start : start + BATCH]]
            batch = torch.stack(images).to(device)
            features = net.features(batch.flip(2) if mirrored else batch).float()
            parts.append((features if reduce is None else reduce(features)).cpu())
            progress("features", min(start + BATCH, len(files)), len(files))
    return torch.cat(parts).clone()  # outside inference mode, so that the head can be trained on them
