"""Features of a frozen backbone, computed once: training the head on them takes seconds an epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from mien.export.networks.frozen_backbone_nets import FrozenBackbone
from mien.runtime.images import read_image
from mien.runtime.vision.crop import resized

BATCH = 16


def features_of(
    net: FrozenBackbone,
    files: Sequence[Path],
    *,
    size: int,
    mirrored: bool = False,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Features (n, c, h, w) float32 of whole pictures resized to `size`.

    reduce: what the head does first, if it leaves little: pooled features take a fiftieth of the memory.

    Raises:
        InputError: a picture that cannot be read, named.
    """
    parts = []
    net.eval()
    with torch.inference_mode():
        batches = range(0, len(files), BATCH)
        for start in track(batches, description="features", console=Console(stderr=True), transient=True):
            pictures = [torch.from_numpy(resized(read_image(f), size)) for f in files[start : start + BATCH]]
            batch = torch.stack(pictures)
            features = net.features(batch.flip(2) if mirrored else batch).float()
            parts.append(features if reduce is None else reduce(features))
    return torch.cat(parts).clone()
