"""Settings shared by all tasks; importing them does not import PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ...bench.data.label_digest import label_digest
from ..networks.normalization import Normalization

LAST, BEST, METRICS, CURVES = "last.pt", "best.pt", "metrics.csv", "curves.png"
"""Files in a run's folder: the checkpoint from which a run resumes, that of the best epoch, the metrics, their plot."""
ProgressCallback: TypeAlias = Callable[[str, int, int], None]
"""Receives a description, the number of steps done, and the total number of steps."""


def no_progress(description: str, done: int, total: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Network to train, and its initial weights.

    Attributes:
        backbone: Name of a torchvision network, or ``reslayer`` for a classifier.
        weights: Weights of the backbone: ``default``, ``none`` or a file.
        normalization: Input scale of those weights.
        init_from: Checkpoint of the same network, to use instead of `weights`.
        new_layers_only: Train only the layers that `init_from`, a checkpoint of a similar network, lacks.
        seed: Seed of the augmentation.
    """

    backbone: str
    weights: str
    normalization: Normalization = Normalization.IMAGENET
    init_from: Path | None = None
    new_layers_only: bool = False
    seed: int = 0

    @property
    def backbone_weights(self) -> str:
        """Weights to build the network with; ``none`` if `init_from` replaces them all."""
        return self.weights if self.init_from is None else "none"

    def settings(self, *data: Path, labels: Sequence[Any]) -> dict[str, Any]:
        """Return the part of a checkpoint's configuration that identifies the network and its data.

        Args:
            *data: Data folders.
            labels: Label tables of these folders.
        """
        return {
            "backbone": self.backbone,
            "normalization": self.normalization.value,
            "weights": Path(self.weights).name,
            "data": _names(data),
            "labels_sha256": label_digest(*labels),
        }

    def provenance(self, *data: Path) -> dict[str, str]:
        """Return the provenance to store in the model file."""
        return {"backbone": self.backbone, "data": _names(data), "seed": str(self.seed)}


def _names(folders: tuple[Path, ...]) -> str:
    return ", ".join(folder.name for folder in folders)


@dataclass(frozen=True, slots=True)
class DistillationConfig:
    """Trained networks that a student learns from beside the labels (knowledge distillation, Hinton et al. 2015).

    Attributes:
        teachers: Their checkpoints; none for a training on labels alone.
        unlabelled: Folders of pictures that only the teachers label.
        weight: Factor of the losses against the teachers' predictions.
    """

    teachers: tuple[Path, ...] = ()
    unlabelled: tuple[Path, ...] = ()
    weight: float = 1.0


NO_TEACHERS = DistillationConfig()


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of the training loop.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Samples per batch and process.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: AdamW's weight decay.
        warm_up: Fraction of the run during which the learning rate rises.
        seed: Seed of sample order and dropout.
        workers: Processes that prepare batches; 0 prepares them in the training process.
        patience: Epochs without improvement after which training stops early; 0: never stop early.
        bfloat16: Compute convolutions in bfloat16; weights and losses stay float32.
        average: Decay of the exponential moving average of the weights, which is validated and saved.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        devices: Processes on each machine. Each takes its part of an epoch, and gradients are averaged (Lightning
            Fabric, also under torchrun).
        nodes: Machines.
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
