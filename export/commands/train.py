"""`mien train`: one command per task. PyTorch is imported inside the commands."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ...runtime.commands.console import print_table, require_train_extra, say, stderr
from ...runtime.commands.input_paths import existing_folder
from ...runtime.commands.run_config import with_config
from ...runtime.errors import InputError
from ...runtime.interrupts import exit_code
from ...runtime.models.spec import ModelSpec, Task
from ..training.config import BEST, LAST, DistillationConfig, ProgressCallback, TrainConfig
from .resume import ResumableCommand, options_to_save
from .train_options import (
    BACKBONE,
    INIT_FROM,
    NEW_LAYERS_ONLY,
    FaceOptions,
    TaskDefaults,
    TrainOptions,
    with_distillation_options,
    with_face_options,
    with_train_options,
)

LANDMARKS, FROZEN_LANDMARKS = TaskDefaults(60, 32, 1e-3), TaskDefaults(30, 32, 1e-3)
AGE_GENDER, FROZEN_AGE_GENDER = TaskDefaults(12, 32, 8e-4), TaskDefaults(20, 32, 1e-3)
CLASSIFY, DETECTOR = TaskDefaults(30, 32, 1e-3), TaskDefaults(60, 12, 1e-3)

train_app = typer.Typer(no_args_is_help=True, help="Train a model by transfer learning.")


@train_app.command(
    "landmarks",
    cls=ResumableCommand,
    epilog="mien train landmarks --data landmarks68 --teacher large.pt --unlabelled photos",
)
@with_config
@with_train_options(LANDMARKS, FROZEN_LANDMARKS)
@with_distillation_options
@with_face_options
def train_landmarks(
    ctx: typer.Context,
    shared: TrainOptions,
    distillation: DistillationConfig,
    face: FaceOptions,
    dims: int | None = typer.Option(
        None, "--dims", min=2, max=3, help="2, or 3 to learn depth too.", show_default="3 where the labels have depth"
    ),
    negatives: Path | None = typer.Option(
        None, "--negatives", callback=existing_folder, help="Folder of images without faces."
    ),
) -> None:
    """Train the network that locates 68 landmarks, their depth where the labels have it, and a face's presence."""
    if shared.summary:
        print_layers(Task.LANDMARKS, face.backbone, shared, **face.shape)
        return
    with require_train_extra():
        from ..training.tasks.frozen_backbone import FrozenBackboneLandmarkTraining
        from ..training.tasks.landmarks import LandmarkTraining
    face.refuse_with_frozen_backbone(distillation, dims=dims == 3, negatives=negatives)
    folder = check_start(face.data, ctx, shared)
    network = shared.network(face.backbone, face.init_from, new_layers_only=face.new_layers_only)
    if face.frozen_backbone:
        frozen = FrozenBackboneLandmarkTraining(folder, network)
        run_training(frozen, shared.config(FROZEN_LANDMARKS, weight_decay=0.0), ctx, shared)
        return
    task = LandmarkTraining(
        folder,
        network,
        frozen=face.freeze,
        dims=dims,
        input_size=face.input_size,
        negatives=negatives,
        light_augmentation=face.light_augmentation,
        distillation=distillation,
    )
    run_training(task, shared.config(LANDMARKS), ctx, shared)


@train_app.command(
    "age-gender",
    cls=ResumableCommand,
    epilog="mien train age-gender --data age_gender",
)
@with_config
@with_train_options(AGE_GENDER, FROZEN_AGE_GENDER)
@with_distillation_options
@with_face_options
def train_age_gender(
    ctx: typer.Context,
    shared: TrainOptions,
    distillation: DistillationConfig,
    face: FaceOptions,
    age_weight: float = typer.Option(1.0, "--age-weight", min=0.0, help="Weight of the age loss."),
    gender_weight: float = typer.Option(2.0, "--gender-weight", min=0.0, help="Weight of the gender loss."),
) -> None:
    """Train the age and gender network, one backbone with two branches, on aligned faces."""
    if shared.summary:
        print_layers(Task.AGE_GENDER, face.backbone, shared, **face.shape)
        return
    with require_train_extra():
        from ..training.tasks.age_gender import AgeGenderTraining
        from ..training.tasks.frozen_backbone import FrozenBackboneAgeGenderTraining
    if not (age_weight > 0 and gender_weight > 0):
        raise InputError("--age-weight and --gender-weight must be above 0, or a branch is not trained")
    face.refuse_with_frozen_backbone(distillation)
    folder = check_start(face.data, ctx, shared)
    network = shared.network(face.backbone, face.init_from, new_layers_only=face.new_layers_only)
    if face.frozen_backbone:
        frozen = FrozenBackboneAgeGenderTraining(folder, network, age_weight=age_weight, gender_weight=gender_weight)
        run_training(frozen, shared.config(FROZEN_AGE_GENDER, weight_decay=0.0), ctx, shared)
        return
    task = AgeGenderTraining(
        folder,
        network,
        frozen=face.freeze,
        input_size=face.input_size,
        light_augmentation=face.light_augmentation,
        age_weight=age_weight,
        gender_weight=gender_weight,
        distillation=distillation,
    )
    run_training(task, shared.config(AGE_GENDER), ctx, shared)


@train_app.command(
    "classify",
    cls=ResumableCommand,
    epilog="mien train classify --data cats_dogs --backbone resnet18",
)
@with_config
@with_train_options(CLASSIFY)
def train_classify(
    ctx: typer.Context,
    shared: TrainOptions,
    data: Path | None = typer.Option(
        None,
        "--data",
        callback=existing_folder,
        help="Folder with one subfolder per class. Required except with --summary.",
        show_default=False,
    ),
    backbone: str = typer.Option(
        "resnet18", "--backbone", help="Name of a torchvision network, which is frozen; or reslayer, trained whole."
    ),
    input_size: int = typer.Option(224, "--input-size", min=32, help="Side that images are resized to, in px."),
) -> None:
    """Train a classifier of whole images: a small head on a frozen backbone."""
    if shared.summary:
        print_layers(Task.CLASSIFY, backbone, shared, input_size=input_size)
        return
    with require_train_extra():
        from ..training.tasks.classify import ClassifyTraining
    folder = check_start(data, ctx, shared)
    network = shared.network(backbone)
    task = ClassifyTraining(folder, network, input_size=input_size)
    run_training(task, shared.config(CLASSIFY, weight_decay=0.0), ctx, shared)


@train_app.command(
    "detector",
    cls=ResumableCommand,
    epilog="mien train detector --data faces --data landmarks68 --data cats_dogs",
)
@with_config
@with_train_options(DETECTOR)
@with_distillation_options
def train_detector(
    ctx: typer.Context,
    shared: TrainOptions,
    distillation: DistillationConfig,
    data: list[Path] = typer.Option(
        [],
        "--data",
        metavar="FOLDER",
        callback=existing_folder,
        help="Folder of images with face boxes, with landmarks, or without faces; can be repeated. Required except "
        "with --summary.",
        show_default=False,
    ),
    backbone: str = typer.Option("mobilenet_v2_short", "--backbone", help=BACKBONE),
    input_size: int = typer.Option(
        320, "--input-size", min=128, help="Side of a training scene, in px; a multiple of 32."
    ),
    init_from: Path | None = INIT_FROM,
    new_layers_only: bool = NEW_LAYERS_ONLY,
    scenes: int = typer.Option(2400, "--scenes", min=1, help="Number of scenes composed for each epoch."),
) -> None:
    """Train the face detector, on scenes that are composed of labelled pictures."""
    with require_train_extra():
        from ..networks.detector_net import LEVELS
    if input_size % LEVELS[-1]:
        raise InputError(f"expected an --input-size that is a multiple of {LEVELS[-1]}, found {input_size}")
    if shared.summary:
        print_layers(Task.DETECTOR, backbone, shared, input_size=input_size)
        return
    with require_train_extra():
        from ..training.tasks.detector import DetectorTraining
    check_start(data[0] if data else None, ctx, shared)
    task = DetectorTraining(
        data,
        shared.network(backbone, init_from, new_layers_only=new_layers_only),
        input_size=input_size,
        scenes=scenes,
        distillation=distillation,
    )
    run_training(task, shared.config(DETECTOR), ctx, shared)


def check_start(data: Path | None, ctx: typer.Context, shared: TrainOptions) -> Path:
    """Return the folder to train on, after checking that it was given and that no other run would be overwritten."""
    from ..training.run_state import check_run

    if data is None:
        raise InputError("--data FOLDER is needed to train (only --summary works without it)")
    check_run(shared.out_folder(ctx), resume=shared.resume is not None)
    return data


def print_layers(task: Task, backbone: str, shared: TrainOptions, *, frozen: bool = False, **network: Any) -> None:
    """Print a network's layers and totals, or the totals as JSON, without loading pretrained weights."""
    with require_train_extra():
        import torch

        from ..networks.build_network import empty_network
        from ..networks.layer_summary import summarize
    size = network["input_size"]
    with torch.device("meta"):  # shapes alone: there are no weights to initialize
        net = empty_network(task, backbone, **network)
        if frozen:
            net.backbone.requires_grad_(False)
        summary = summarize(net, ModelSpec(task, (size, size), ()))
    totals = {k: getattr(summary, k) for k in ("parameters", "trainable", "multiply_adds")}
    if shared.as_json:
        print(json.dumps(totals))
        return
    rows = [
        [x.name, x.kind, " × ".join(map(str, x.output)), f"{x.parameters:,}", f"{x.trainable:,}"]
        for x in summary.layers
    ]
    head = ["layer", "kind", "output", "parameters", "trainable"]
    print_table(f"{task.value}, {backbone}, {size} × {size} px", head, rows, words=2)
    print("  ".join(f"{k}: {v:,}" for k, v in totals.items()))


@contextlib.contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """Show progress on a terminal, below what is logged, and yield the callback that advances it."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=stderr,
        transient=True,
        redirect_stdout=False,
        disable=not stderr.is_terminal,
    ) as bar:
        row = bar.add_task("")

        def show(description: str, done: int, total: int) -> None:
            if bar.finished:  # with the epoch before, whose time would stay
                bar.reset(row)
            bar.update(row, description=description, completed=done, total=total)

        yield show


def run_training(task: Any, config: TrainConfig, ctx: typer.Context, shared: TrainOptions) -> None:
    """Run the training loop, and print the next command to run."""
    from ..training.loop import fit, is_first_process

    out, resume = shared.out_folder(ctx), shared.resume is not None
    logging.getLogger("mien").setLevel(logging.INFO)  # shows each epoch's metrics
    try:
        with progress_bar() as progress:
            best = fit(task, config, out, resume=resume, options=options_to_save(ctx), progress=progress)
    except KeyboardInterrupt:
        advice = f"to continue: mien train {ctx.info_name} --resume {shlex.quote(str(out))}"
        say(f"interrupted; {advice if (out / LAST).is_file() else 'no epoch was finished'}")
        raise typer.Exit(exit_code()) from None
    if not is_first_process():
        return
    say(f"best: {out / BEST}; next: mien export {shlex.quote(str(out / BEST))} -o model.onnx")
    print(json.dumps({"checkpoint": str(out / BEST), **best.metrics}))
