"""Options that the `mien train` commands share."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from ...runtime.commands.input_paths import existing_file, existing_folder
from ...runtime.commands.option_groups import with_options
from ...runtime.errors import InputError
from ...runtime.output_paths import free_path
from ..networks.normalization import Normalization
from ..training.config import NO_TEACHERS, DistillationConfig, NetworkConfig, TrainConfig
from .resume import default_folder


class Recipe(str, Enum):
    """Network and training method of a task."""

    OWN = "own"
    FROZEN_BACKBONE = "frozen-backbone"
    CHAPTER = "chapter"
    """The textbook's name for `FROZEN_BACKBONE`."""


BACKBONE = "Name of a torchvision network."
OWN_BACKBONE, WHOLE_BACKBONE = "mobilenet_v2_lean", "mobilenet_v2"
"""Default backbones of mien's own networks, and of the frozen-backbone recipe, which takes no reduced one."""
INIT_FROM = typer.Option(None, "--init-from", callback=existing_file, help="Start from the weights of this checkpoint.")
NEW_LAYERS_ONLY = typer.Option(
    False,
    "--new-layers-only",
    help="With --init-from a checkpoint of another backbone: keep the layers that both share, and train the others.",
)
CROP_SIDE = 112


@dataclass(frozen=True)
class FaceOptions:
    """Options of training on face crops."""

    data: Path | None
    backbone: str
    recipe: Recipe | None
    freeze: bool
    input_size: int
    init_from: Path | None
    new_layers_only: bool
    light_augmentation: bool

    @property
    def frozen_backbone(self) -> bool:
        """Whether to train the textbook's model: as requested by the recipe, else if the backbone is the textbook's."""
        return self.backbone == "vgg16" if self.recipe is None else self.recipe is not Recipe.OWN

    @property
    def shape(self) -> dict[str, Any]:
        """Options of `print_layers`."""
        size = 224 if self.frozen_backbone else self.input_size
        return {"frozen_backbone": self.frozen_backbone, "frozen": self.freeze, "input_size": size}

    def refuse_with_frozen_backbone(self, distillation: DistillationConfig, **others: object) -> None:
        """Reject options that the frozen-backbone recipe would ignore.

        Args:
            distillation: Teachers; the recipe has none.
            **others: Options of one task that it would ignore, by name; false if not given.

        Raises:
            InputError: Such an option was given.
        """
        ignored = {
            "freeze": self.freeze,
            "input-size": self.input_size != CROP_SIDE,
            "init-from": self.init_from,
            "new-layers-only": self.new_layers_only,
            "light-augmentation": self.light_augmentation,
            "teacher": distillation.teachers,
            "unlabelled": distillation.unlabelled,
            "teacher-weight": distillation.weight != NO_TEACHERS.weight,
            **others,
        }
        if self.frozen_backbone and (given := [f"--{name}" for name, value in ignored.items() if value]):
            raise InputError(f"--recipe frozen-backbone does not take {', '.join(given)}; use --recipe own, or omit it")


def face_options(
    data: Path | None = typer.Option(
        None,
        "--data",
        callback=existing_folder,
        help="Folder of images and their labels. Required except with --summary.",
        show_default=False,
    ),
    backbone: str | None = typer.Option(
        None, "--backbone", help=BACKBONE, show_default=f"{OWN_BACKBONE}; frozen-backbone: {WHOLE_BACKBONE}"
    ),
    recipe: Recipe | None = typer.Option(
        None,
        "--recipe",
        help="own: mien's network. frozen-backbone, or chapter: the textbook's head on a frozen backbone, on whole "
        "images.",
        show_default="own; with vgg16, frozen-backbone",
    ),
    freeze: bool = typer.Option(
        False, "--freeze/--fine-tune", help="Train only the layers after the backbone, or the whole network."
    ),
    input_size: int = typer.Option(CROP_SIDE, "--input-size", min=64, help="Side of the crop, in px."),
    init_from: Path | None = INIT_FROM,
    new_layers_only: bool = NEW_LAYERS_ONLY,
    light_augmentation: bool = typer.Option(
        False, "--light-augmentation", help="Augment less, for a last stage on nearly upright, clean faces."
    ),
) -> FaceOptions:
    """Collect the options of training on face crops; see `with_options`."""
    given = locals()
    if backbone is None:
        given["backbone"] = OWN_BACKBONE if recipe in (None, Recipe.OWN) else WHOLE_BACKBONE
    return FaceOptions(**given)


@dataclass(frozen=True)
class TaskDefaults:
    """Default values that depend on the task."""

    epochs: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class TrainOptions:
    """Options of all training commands; None stands for the task's default."""

    weights: str
    normalization: Normalization | None
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
    resume: Path | None
    summary: bool
    as_json: bool

    def config(self, defaults: TaskDefaults, **fixed: Any) -> TrainConfig:
        """Return the settings of the training loop.

        Args:
            defaults: Values of options that were not given.
            **fixed: Settings that have no option.
        """
        options = {field.name: getattr(self, field.name, None) for field in fields(TrainConfig)}
        given = {name: value for name, value in options.items() if value is not None}
        return TrainConfig(**(asdict(defaults) | given | fixed))

    def network(self, backbone: str, init_from: Path | None = None, *, new_layers_only: bool = False) -> NetworkConfig:
        """Return the settings of the network, and seed PyTorch for its initial weights.

        Raises:
            InputError: The input scale of the weights is unknown, or differs from the given one.
        """
        import torch

        from ..networks.input_scale import input_scale

        torch.manual_seed(self.seed)
        scale = input_scale(self.weights, init_from, self.normalization)
        return NetworkConfig(backbone, self.weights, scale, init_from, new_layers_only, self.seed)

    def out_folder(self, ctx: typer.Context) -> Path:
        """Return the folder to write to, by default a new one named after the command.

        Raises:
            InputError: `--resume` and `--out` name different folders.
        """
        if self.resume is not None and self.out is not None and self.resume.resolve() != self.out.resolve():
            raise InputError(f"--resume {self.resume} continues in that folder; omit --out {self.out}")
        return self.resume or self.out or free_path(default_folder(str(ctx.info_name)))


def train_options(
    weights: str = typer.Option(
        "default",
        "--weights",
        help="Pretrained weights of the backbone: default (downloaded by torchvision), none, or a .safetensors or .pt "
        "file.",
    ),
    normalization: Normalization | None = typer.Option(
        None,
        "--normalization",
        help="Input scale of the pretrained weights: imagenet as in torchvision, symmetric (x / 127.5 − 1) as in "
        "TensorFlow. Required for a file that does not state it.",
        show_default="as stated by the weights",
    ),
    epochs: int | None = typer.Option(None, "--epochs", min=1, help="Passes over the training data."),
    batch_size: int | None = typer.Option(None, "--batch-size", min=2, help="Samples per batch in each process."),
    learning_rate: float | None = typer.Option(None, "--learning-rate", help="Peak learning rate."),
    seed: int = typer.Option(
        0, "--seed", min=0, max=2**32 - 1, help="Seed of initial weights, sample order and augmentation."
    ),
    workers: int = typer.Option(1, "--workers", min=0, help="Processes that prepare batches."),
    patience: int = typer.Option(
        0, "--patience", min=0, help="Stop after this many epochs without improvement; 0: never stop early."
    ),
    bfloat16: bool = typer.Option(
        False,
        "--bfloat16/--float32",
        help="Compute convolutions in bfloat16: faster on GPUs, and on processors with AVX512-BF16 or AMX except for "
        "MobileNets.",
    ),
    device: str = typer.Option("cpu", "--device", help="Device to train on: cpu, cuda, cuda:1, …"),
    devices: int = typer.Option(1, "--devices", min=1, help="Processes (GPUs) per machine; torchrun works too."),
    nodes: int = typer.Option(1, "--nodes", min=1, help="Number of machines."),
    out: Path | None = typer.Option(
        None,
        "--out",
        help="Folder for checkpoints, metrics.csv and curves.png.",
        show_default="runs/TASK, then runs/TASK-2, …",
    ),
    resume: Path | None = typer.Option(
        None,
        "--resume",
        help="Continue the run in this folder (by default in --out, or the latest in runs) with its original options. "
        "More --epochs may be requested, and --data may have moved.",
    ),
    summary: bool = typer.Option(False, "--summary", help="Only print the network's layers and parameter counts."),
    as_json: bool = typer.Option(False, "--json", help="With --summary: print the totals as JSON."),
) -> TrainOptions:
    """Collect the options of all training commands; see `with_train_options`."""
    return TrainOptions(**locals())


def with_train_options(
    own: TaskDefaults, frozen: TaskDefaults | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command with the options of all training commands, showing the defaults of its task.

    Args:
        own: Defaults of the task.
        frozen: Defaults of the frozen-backbone recipe, if the task has it.
    """

    def shown(parameter: inspect.Parameter) -> inspect.Parameter:
        if not hasattr(own, parameter.name):
            return parameter
        text = f"{getattr(own, parameter.name):g}"
        if frozen is not None and getattr(frozen, parameter.name) != getattr(own, parameter.name):
            text += f"; frozen-backbone: {getattr(frozen, parameter.name):g}"
        option = copy.copy(parameter.default)
        option.show_default = text
        return parameter.replace(default=option)

    signature = inspect.signature(train_options, eval_str=True)

    def group(**values: Any) -> TrainOptions:
        return train_options(**values)

    group.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[shown(parameter) for parameter in signature.parameters.values()]
    )
    return with_options(group, "shared", panel="Training")


def distillation_options(
    teacher: list[Path] = typer.Option(
        [],
        "--teacher",
        metavar="CHECKPOINT",
        callback=existing_file,
        help="Also learn from this trained checkpoint; can be repeated.",
        show_default=False,
    ),
    unlabelled: list[Path] = typer.Option(
        [],
        "--unlabelled",
        metavar="FOLDER",
        callback=existing_folder,
        help="Folder of pictures that only the teachers label; can be repeated.",
        show_default=False,
    ),
    teacher_weight: float = typer.Option(
        NO_TEACHERS.weight,
        "--teacher-weight",
        help="Weight of the teachers' losses; those of the labels have a weight of 1.",
    ),
) -> DistillationConfig:
    """Collect the options of trainings with teachers, for `with_options`."""
    return DistillationConfig(tuple(teacher), tuple(unlabelled), teacher_weight)


with_face_options = with_options(face_options, "face")
with_distillation_options = with_options(distillation_options, "distillation", panel="Teachers")
