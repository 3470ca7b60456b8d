"""How to train, whatever the task: numbers only, so that the command line can show them without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of the training loop.

    patience: epochs without a better validation score before training stops early, 0 for never.
    bfloat16: run convolutions in bfloat16 (weights stay float32); twice as fast where the processor has it.
    average: decay of the exponential moving average of the weights, which is what is validated and saved.
    device: cpu, cuda or cuda:N. devices, nodes: processes on each machine, and machines; each process takes its share
    of an epoch in batches of `batch_size`, and gradients are averaged (Lightning Fabric, also under torchrun).
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.02
    warm_up: float = 0.05
    seed: int = 0
    workers: int = 1
    patience: int = 0
    bfloat16: bool = False
    average: float = 0.998
    device: str = "cpu"
    devices: int = 1
    nodes: int = 1


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of an epoch a process takes: number `rank` of `of`."""

    rank: int = 0
    of: int = 1
