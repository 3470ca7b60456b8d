"""`mien train …`: the options of all trainings, and a command for each. PyTorch is imported inside the commands."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from mien.export.networks.normalization import Normalization
from mien.runtime.commands.console import needs_torch, say
from mien.runtime.errors import InputError
from mien.runtime.models.spec import ModelSpec, Task

if TYPE_CHECKING:
    from mien.export.training.config import TrainConfig

train_app = typer.Typer(no_args_is_help=True, help="Train a model by transfer learning.")


class Recipe(str, Enum):
    """Which network and training a task uses."""

    OWN = "own"
    CHAPTER = "chapter"


# Options of every training task; what all tasks share is in `train_options`.
TRAIN_DATA = typer.Option(None, "--data", help="Folder with images and labels.", show_default="needed")
BACKBONE = "Name of a torchvision network."
FREEZE = typer.Option(False, "--freeze/--fine-tune", help="Keep the backbone's weights, or train them too.")
RECIPE = typer.Option(
    None, "--recipe", help="chapter: frozen backbone, whole pictures.", show_default="own; vgg16: chapter"
)
LIGHT_AUGMENTATION = typer.Option(
    False, "--light-augmentation", help="Stray less from upright, clean faces: for a last stage."
)
INIT_FROM = typer.Option(None, "--init-from", help="Begin with the weights of this checkpoint.")


@dataclass(frozen=True)
class TrainOptions:
    """What every training is told. None: the task's own value."""

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
        """The loop's settings; the three numbers are the task's own."""
        from mien.export.training.config import TrainConfig

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

    def of_network(self) -> dict[str, Any]:
        """What the task's network is made with; its first weights follow the seed."""
        import torch

        torch.manual_seed(self.seed)
        return {"weights": self.weights, "normalization": self.normalization, "seed": self.seed}


def train_options(
    weights: str = typer.Option(
        "default", "--weights", help="default (torchvision's, downloaded), none, or a .safetensors/.pt FILE."
    ),
    normalization: Normalization = typer.Option(
        Normalization.IMAGENET, "--normalization", help="Input scale that those weights were trained on."
    ),
    epochs: int | None = typer.Option(None, "--epochs", min=1, show_default="the task's"),
    batch_size: int | None = typer.Option(
        None, "--batch-size", min=2, help="Of each process.", show_default="the task's"
    ),
    learning_rate: float | None = typer.Option(None, "--learning-rate", show_default="the task's"),
    seed: int = typer.Option(0, "--seed", min=0),
    workers: int = typer.Option(1, "--workers", min=0, help="Processes that prepare batches."),
    patience: int = typer.Option(
        0, "--patience", min=0, help="Stop after so many epochs without a better one; 0: never."
    ),
    bfloat16: bool = typer.Option(
        False, "--bfloat16/--float32", help="Convolve in bfloat16 (fast on AVX512-BF16, AMX, GPUs)."
    ),
    device: str = typer.Option("cpu", "--device", help="cpu, cuda, cuda:1, …"),
    devices: int = typer.Option(1, "--devices", min=1, help="Processes (GPUs) on each machine; torchrun works too."),
    nodes: int = typer.Option(1, "--nodes", min=1, help="Machines."),
    out: Path | None = typer.Option(
        None, "--out", help="Folder for checkpoints, metrics.csv and curves.png.", show_default="runs/TASK"
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on where the training in --out was interrupted."),
    summary: bool = typer.Option(False, "--summary", help="Only print the network's layers and parameters."),
    as_json: bool = typer.Option(False, "--json", help="Print the summary's totals as JSON."),
) -> TrainOptions:
    """Options of every training; not called by typer, but merged into each command by `train_command`."""
    return TrainOptions(**locals())


def train_command(name: str, *, epilog: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a training: its own options, and those of `train_options` as its argument `shared`."""

    def register(command: Callable[..., None]) -> Callable[..., None]:
        own, shared = inspect.signature(command, eval_str=True), inspect.signature(train_options, eval_str=True)
        parameters = [*(p for p in own.parameters.values() if p.name != "shared"), *shared.parameters.values()]

        @functools.wraps(command)
        def run(**values: Any) -> None:
            command(
                **{k: v for k, v in values.items() if k not in shared.parameters},
                shared=train_options(**{k: values[k] for k in shared.parameters}),
            )

        run.__dict__.pop("__wrapped__")
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        train_app.command(name, epilog=epilog)(run)
        return command

    return register


@train_command("landmarks", epilog="mien train landmarks --data landmarks68 --backbone mobilenet_v2_lean --bfloat16")
def train_landmarks(
    shared: TrainOptions,
    data: Path | None = TRAIN_DATA,
    backbone: str = typer.Option("mobilenet_v2_lean", "--backbone", help=BACKBONE),
    recipe: Recipe | None = RECIPE,
    freeze: bool = FREEZE,
    dims: int | None = typer.Option(None, "--dims", min=2, max=3, help="3: depth too.", show_default="as the labels"),
    input_size: int = typer.Option(112, "--inputs-size", min=64, help="Side of the crop, px."),
    negatives: Path | None = typer.Option(None, "--negatives", help="Folder of pictures without faces."),
    init_from: Path | None = INIT_FROM,
    light_augmentation: bool = LIGHT_AUGMENTATION,
) -> None:
    """Train the 68-point landmark model (with depth where the labels have it, and presence)."""
    chapter = is_chapter(recipe, backbone)
    if shared.summary:
        size = 224 if chapter else input_size
        print_layers(Task.LANDMARKS, backbone, shared, chapter=chapter, frozen=freeze, input_size=size)
        return
    with needs_torch():
        from mien.export.training.frozen_backbone import ChapterLandmarkTraining
        from mien.export.training.landmarks import LandmarkTraining
    if chapter:
        refuse_with_chapter(
            freeze=freeze,
            dims=dims == 3,
            input_size=input_size != 112,
            negatives=negatives,
            init_from=init_from,
            light_augmentation=light_augmentation,
        )
    folder = begin(data, "landmarks", shared)
    if chapter:
        task: Any = ChapterLandmarkTraining(folder, backbone=backbone, **shared.of_network())
        run_training(task, shared.config(30, 32, 1e-3, weight_decay=0.0), "landmarks", shared)
        return
    task = LandmarkTraining(
        folder,
        backbone=backbone,
        frozen=freeze,
        dims=dims,
        input_size=input_size,
        negatives=negatives,
        init_from=init_from,
        light_augmentation=light_augmentation,
        **shared.of_network(),
    )
    run_training(task, shared.config(60, 32, 1e-3), "landmarks", shared)


@train_command("age-gender", epilog="mien train age-gender --data age_gender --bfloat16 --epochs 12")
def train_age_gender(
    shared: TrainOptions,
    data: Path | None = TRAIN_DATA,
    backbone: str = typer.Option("mobilenet_v2_lean", "--backbone", help=BACKBONE),
    recipe: Recipe | None = RECIPE,
    freeze: bool = FREEZE,
    input_size: int = typer.Option(112, "--inputs-size", min=64, help="Side of the crop, px."),
    init_from: Path | None = INIT_FROM,
    light_augmentation: bool = LIGHT_AUGMENTATION,
    age_weight: float = typer.Option(1.0, "--age-weight", min=0.0, help="Weight of the age's loss."),
    gender_weight: float = typer.Option(2.0, "--gender-weight", min=0.0, help="Weight of the gender's loss."),
) -> None:
    """Train age and gender: one backbone, two branches, on aligned crops."""
    chapter = is_chapter(recipe, backbone)
    if shared.summary:
        size = 224 if chapter else input_size
        print_layers(Task.AGE_GENDER, backbone, shared, chapter=chapter, frozen=freeze, input_size=size)
        return
    with needs_torch():
        from mien.export.training.age_gender import AgeGenderTraining
        from mien.export.training.frozen_backbone import ChapterAgeGenderTraining
    if not (age_weight > 0 and gender_weight > 0):
        raise InputError("wanted --age-weight and --gender-weight above 0: without, a branch is not trained")
    if chapter:
        refuse_with_chapter(
            freeze=freeze, input_size=input_size != 112, init_from=init_from, light_augmentation=light_augmentation
        )
    folder = begin(data, "age-gender", shared)
    losses: dict[str, Any] = {"age_weight": age_weight, "gender_weight": gender_weight}
    if chapter:
        task: Any = ChapterAgeGenderTraining(folder, backbone=backbone, **losses, **shared.of_network())
        run_training(task, shared.config(20, 32, 1e-3, weight_decay=0.0), "age-gender", shared)
        return
    task = AgeGenderTraining(
        folder,
        backbone=backbone,
        frozen=freeze,
        input_size=input_size,
        init_from=init_from,
        light_augmentation=light_augmentation,
        **losses,
        **shared.of_network(),
    )
    run_training(task, shared.config(12, 32, 8e-4), "age-gender", shared)


@train_command("classify", epilog="mien train classify --data cats_dogs --backbone resnet18")
def train_classify(
    shared: TrainOptions,
    data: Path | None = typer.Option(None, "--data", help="Folder of a folder a class.", show_default="needed"),
    backbone: str = typer.Option("resnet18", "--backbone", help="A torchvision network, frozen; or reslayer, trained."),
    input_size: int = typer.Option(224, "--inputs-size", min=32, help="Side that pictures are resized to, px."),
) -> None:
    """Train a classifier of whole pictures: a frozen backbone and a small head."""
    if shared.summary:
        print_layers(Task.CLASSIFY, backbone, shared, input_size=input_size)
        return
    with needs_torch():
        from mien.export.training.classify import ClassifyTraining
    folder = begin(data, "classify", shared)
    task = ClassifyTraining(folder, backbone=backbone, input_size=input_size, **shared.of_network())
    run_training(task, shared.config(30, 32, 1e-3, weight_decay=0.0), "classify", shared)


@train_command("detector", epilog="mien train detector --data faces --data landmarks68 --data cats_dogs")
def train_detector(
    shared: TrainOptions,
    data: list[Path] = typer.Option(
        [], "--data", help="Folder of boxed, landmarked or face-free pictures; repeat it.", show_default="needed"
    ),
    backbone: str = typer.Option("mobilenet_v2_short", "--backbone", help=BACKBONE),
    input_size: int = typer.Option(320, "--inputs-size", min=128, help="Side of a training scene, px."),
    init_from: Path | None = INIT_FROM,
    scenes: int = typer.Option(2400, "--scenes", min=1, help="Scenes composed for each epoch."),
) -> None:
    """Train the face detector."""
    if shared.summary:
        print_layers(Task.DETECTOR, backbone, shared, input_size=input_size)
        return
    with needs_torch():
        from mien.export.training.detector import DetectorTraining
    begin(data[0] if data else None, "detector", shared)
    task = DetectorTraining(
        data, backbone=backbone, input_size=input_size, scenes=scenes, init_from=init_from, **shared.of_network()
    )
    run_training(task, shared.config(60, 12, 1e-3), "detector", shared)


def begin(data: Path | None, name: str, shared: TrainOptions) -> Path:
    """The folder to train on, once it is sure that there is one, and that no other training is in the way."""
    from mien.export.training.loop import check_run

    if data is None:
        raise InputError("--data FOLDER is needed to train (only --summary works without)")
    check_run(shared.out or Path("runs") / name, shared.resume)
    return data


def refuse_with_chapter(**options: object) -> None:
    """The chapter's models are what they are: an option that would be ignored is an error."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given:
        raise InputError(f"the chapter's recipe takes no {', '.join(given)}; use --recipe own, or leave it out")


def is_chapter(recipe: Recipe | None, backbone: str) -> bool:
    """Whether to build the chapter's model: asked for, or meant by naming the chapter's backbone."""
    return recipe is Recipe.CHAPTER or (recipe is None and backbone == "vgg16")


def print_layers(task: Task, backbone: str, shared: TrainOptions, *, frozen: bool = False, **network: Any) -> None:
    """Print a network's layers and totals, or the totals as JSON; weights are not needed for it."""
    with needs_torch():
        from mien.export.networks.build_network import empty_network
        from mien.export.networks.layer_summary import summarise
    net = empty_network(task, backbone, **network)
    if frozen:
        net.backbone.requires_grad_(False)
    size = network["input_size"]
    summary = summarise(net, ModelSpec(task, (size, size), ()))
    totals = {k: getattr(summary, k) for k in ("parameters", "trainable", "multiply_adds")}
    if shared.as_json:
        print(json.dumps(totals))
        return
    table = Table(title=f"{task.value}, {backbone}, {size} × {size} px")
    for heading in ("layer", "kind", "output", "parameters", "trainable"):
        table.add_column(heading, justify="left" if heading in ("layer", "kind") else "right")
    for layer in summary.layers:
        shape = " × ".join(str(n) for n in layer.output)
        table.add_row(layer.name, layer.kind, shape, f"{layer.parameters:,}", f"{layer.trainable:,}")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    print("  ".join(f"{k}: {v:,}" for k, v in totals.items()))


def run_training(task: Any, config: TrainConfig, name: str, shared: TrainOptions) -> None:
    """Run the loop and say what to type next."""
    from mien.export.training.loop import BEST, LAST, fit, is_first_process

    out = shared.out or Path("runs") / name
    logging.getLogger("mien").setLevel(logging.INFO)  # the epochs' metrics
    try:
        best = fit(task, config, out, resume=shared.resume)
    except KeyboardInterrupt:
        kept = (out / LAST).is_file()
        say(f"interrupted; {f'the same command with --resume goes on from {out}' if kept else 'no epoch was finished'}")
        raise typer.Exit(130) from None
    if not is_first_process():
        return
    say(f"best: {out / BEST}; next: mien export {out / BEST} -o model.onnx")
    print(json.dumps({"checkpoint": str(out / BEST), **best.metrics}))
