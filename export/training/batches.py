"""Batches: reproducible augmented datasets, loading them, and running a network over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .config import TrainConfig

BATCH = 64
"""Inputs per call of a network in evaluation mode."""


class AugmentedDataset(Dataset[tuple[Tensor, ...]]):
    """Dataset whose samples depend only on seed, epoch and index, so that a resumed run repeats them.

    Attributes:
        seed: Seed of the run.
        epoch: Epoch to draw samples for; set it before each epoch.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.epoch = 0

    def rng(self, index: int) -> np.random.Generator:
        """Return the random generator of a sample in the current epoch."""
        return np.random.default_rng((self.seed, self.epoch, index))


def load_batches(
    dataset: Dataset[Any], epoch: int, train: TrainConfig, *, rank: int = 0, world_size: int = 1
) -> DataLoader[tuple[Tensor, ...]]:
    """Load a process's part of a dataset, shuffled anew for each epoch.

    Args:
        dataset: Samples, as tuples of tensors.
        epoch: Epoch from 0; the same epoch gives the same batches.
        train: Batch size, seed and number of workers.
        rank: Number of this process, from 0.
        world_size: Number of processes, each of which loads another part.

    Returns:
        A loader of batches; an incomplete last batch is dropped unless it is the only one.
    """
    if isinstance(dataset, AugmentedDataset):
        dataset.epoch = epoch
    generator = torch.Generator().manual_seed(train.seed * 100_003 + epoch)
    order = torch.randperm(len(dataset), generator=generator).tolist()  # type: ignore[arg-type]
    mine = order[rank : len(order) // world_size * world_size : world_size]
    return DataLoader(
        dataset,
        batch_size=train.batch_size,
        sampler=mine,
        drop_last=len(mine) > train.batch_size,
        num_workers=train.workers,
    )


def predict_batches(net: nn.Module, inputs: Tensor, *, method: str = "forward") -> tuple[Tensor, ...]:
    """Run a network in evaluation mode over many inputs.

    Args:
        net: Network, on any device.
        inputs: Inputs (n, …) on the CPU.
        method: Name of the method to call.

    Returns:
        The method's outputs (n, …), float32 on the CPU; always a tuple.
    """
    net.eval()
    device = next(net.parameters()).device
    run = getattr(net, method)
    with torch.inference_mode():
        outputs = [run(part.to(device)) for part in torch.split(inputs, BATCH)]
    columns = zip(*(o if isinstance(o, tuple) else (o,) for o in outputs), strict=True)
    return tuple(torch.cat(column).float().cpu() for column in columns)
