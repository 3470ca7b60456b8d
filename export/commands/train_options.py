"""Options of `mien train`: those of several tasks, and those of all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from ...runtime.commands.option_groups import with_options
from ..networks.normalization import Normalization
from ..training.config import NetworkConfig, TrainConfig


class Recipe(str, Enum):
    """Network and training of a task."""

    OWN = "own"
    FROZEN_BACKBONE = "frozen-backbone"
    CHAPTER = "chapter"
    """The textbook's name for `FROZEN_BACKBONE`."""


# Options of several tasks; those of every task are in `train_options`.
TRAIN_DATA = typer.Option(
    None, "--data", help="Folder of images and their labels. Required except with --summary.", show_default=False
)
BACKBONE = "Name of a torchvision network."
FREEZE = typer.Option(
    False, "--freeze/--fine-tune", help="Train only the layers after the backbone, or the whole network."
)
RECIPE = typer.Option(
    None,
    "--recipe",
    help="own: mien's network. frozen-backbone, or chapter: the textbook's head on a frozen backbone, on whole images.",
    show_default="own; with vgg16, frozen-backbone",
)
CROP_SIZE = typer.Option(112, "--input-size", min=64, help="Side of the crop, in px.")
LIGHT_AUGMENTATION = typer.Option(
    False, "--light-augmentation", help="Augment less, for a last stage on nearly upright, clean faces."
)
INIT_FROM = typer.Option(None, "--init-from", help="Start from the weights of this checkpoint.")


@dataclass(frozen=True)
class TrainOptions:
    """Options of every training; None stands for the task's own default."""

    weights: str
    normalization: Normalization
    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    seed: int
    workers: int
    patience: int
    bfloat16: bool
    device: str
    devices: int
    nodes: int
    out: Path | None
    resume: bool
    summary: bool
    as_json: bool

    def config(self, epochs: int, batch_size: int, learning_rate: float, **fixed: Any) -> TrainConfig:
        """Return the loop's settings.

        Args:
            epochs: The task's default.
            batch_size: The task's default.
            learning_rate: The task's default.
            **fixed: Settings that have no option.
        """
        return TrainConfig(
            epochs=self.epochs or epochs,
            batch_size=self.batch_size or batch_size,
            learning_rate=learning_rate if self.learning_rate is None else self.learning_rate,
            seed=self.seed,
            workers=self.workers,
            patience=self.patience,
            bfloat16=self.bfloat16,
            device=self.device,
            devices=self.devices,
            nodes=self.nodes,
            **fixed,
        )

    def network(self, backbone: str, init_from: Path | None = None) -> NetworkConfig:
        """Return the network's settings, and seed its initial weights."""
        import torch

        torch.manual_seed(self.seed)
        return NetworkConfig(backbone, self.weights, self.normalization, init_from, self.seed)

    def out_folder(self, name: str) -> Path:
        """Return the folder to write to; by default it has the task's name."""
        return self.out or Path("runs") / name


def train_options(
    weights: str = typer.Option(
        "default",
        "--weights",
        help="Pretrained weights of the backbone: default (downloaded by torchvision), none, or a .safetensors or .pt "
        "file.",
    ),
    normalization: Normalization = typer.Option(
        Normalization.IMAGENET, "--normalization", help="Input scale that the pretrained weights expect."
    ),
    epochs: int | None = typer.Option(
        None, "--epochs", min=1, help="Passes over the training data.", show_default="depends on the task"
    ),
    batch_size: int | None = typer.Option(
        None, "--batch-size", min=2, help="Samples per batch in each process.", show_default="depends on the task"
    ),
    learning_rate: float | None = typer.Option(
        None, "--learning-rate", help="Peak learning rate.", show_default="depends on the task"
    ),
    seed: int = typer.Option(0, "--seed", min=0, help="Seed of initial weights, sample order and augmentation."),
    workers: int = typer.Option(1, "--workers", min=0, help="Processes that prepare batches."),
    patience: int = typer.Option(
        0, "--patience", min=0, help="Stop after this many epochs without improvement; 0: never stop early."
    ),
    bfloat16: bool = typer.Option(
        False,
        "--bfloat16/--float32",
        help="Compute convolutions in bfloat16 (fast on GPUs and on processors with AVX512-BF16 or AMX).",
    ),
    device: str = typer.Option("cpu", "--device", help="cpu, cuda, cuda:1, …"),
    devices: int = typer.Option(1, "--devices", min=1, help="Processes (GPUs) per machine; torchrun works too."),
    nodes: int = typer.Option(1, "--nodes", min=1, help="Number of machines."),
    out: Path | None = typer.Option(
        None, "--out", help="Folder for checkpoints, metrics.csv and curves.png.", show_default="runs/TASK"
    ),
    resume: bool = typer.Option(False, "--resume", help="Continue the interrupted training in --out."),
    summary: bool = typer.Option(False, "--summary", help="Only print the network's layers and parameter counts."),
    as_json: bool = typer.Option(False, "--json", help="With --summary: print the totals as JSON."),
) -> TrainOptions:
    """Collect the options of every training; `with_train_options` adds them to each command."""
    return TrainOptions(**locals())


with_train_options = with_options(train_options, "shared")
