"""The training loop: one page, read from top to bottom."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from ..runtime.errors import InputError, OutputError
from ..runtime.spec import ModelSpec
from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .history import Report

log = logging.getLogger("mien")

LAST, BEST = "last.pt", "best.pt"


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train, whatever the task.

    patience: epochs without a better validation score before training stops early, 0 for never.
    bfloat16: run convolutions in bfloat16 (weights stay float32); twice as fast where the processor has it.
    average: decay of the exponential moving average of the weights, which is what is validated and saved.
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


class Training(Protocol):
    """What a task brings to the loop."""

    net: nn.Module
    spec: ModelSpec
    config: dict[str, Any]
    score: str
    """The validation metric that decides which epoch is best; smaller is better."""

    def batches(self, epoch: int, train: TrainConfig) -> DataLoader[tuple[Tensor, ...]]:
        """Load the batches of an epoch; the same epoch gives the same batches."""
        ...

    def losses(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Parts of the loss, already weighted; their sum is minimised."""
        ...

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Metrics on the validation split."""
        ...


@dataclass(slots=True)
class _State:
    """What changes while a training runs, and what a resume needs back."""

    net: nn.Module
    averaged: AveragedModel
    optimiser: torch.optim.Optimizer
    report: Report
    epoch: int = 0
    best: float = math.inf
    stale: int = 0
    """Epochs since the best one."""


def fit(task: Training, train: TrainConfig, out: Path, *, resume: bool = False) -> Checkpoint:
    """Train, validate after each epoch, and keep ``last.pt``, ``best.pt``, ``metrics.csv`` and ``curves.png`` in `out`.

    Raises:
        InputError: options that cannot work, nothing to resume, or a loss that is no longer a number.
        OutputError: `out` cannot be written.
    """
    state = _start(task, train)
    _prepare(out, resume)
    if resume:
        _restore(out, task, train, state)
    while state.epoch < train.epochs:
        torch.manual_seed(train.seed * 100_003 + state.epoch)  # dropout too is the same after a resume
        _train_epoch(task, train, state)
        state.averaged.eval()
        metrics = task.validate(state.averaged.module)
        state.epoch += 1
        state.report.record(state.epoch, **metrics)
        improved = metrics[task.score] < state.best
        state.best, state.stale = (metrics[task.score], 0) if improved else (state.best, state.stale + 1)
        _keep(out, task, train, state, metrics)
        log.info("epoch %d: %s", state.epoch, "  ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
        if train.patience and state.stale >= train.patience:
            log.info("stopped early: %s has not improved for %d epochs", task.score, state.stale)
            break
    return load_checkpoint(out / BEST)


def _start(task: Training, train: TrainConfig) -> _State:
    if not train.learning_rate > 0:
        raise InputError(f"wanted a learning rate above 0, found {train.learning_rate}")
    if len(task.batches(0, train)) == 0:
        raise InputError(f"not one batch of {train.batch_size}: take a smaller --batch-size or more data")
    try:
        net = task.net.to(torch.device(train.device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {train.device} cannot be used ({str(error).splitlines()[0]})") from error
    averaged = AveragedModel(net, avg_fn=_moving_average(train.average), use_buffers=True)
    trainable = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=train.learning_rate, weight_decay=train.weight_decay)
    return _State(net, averaged, optimiser, Report(train.epochs))


def _train_epoch(task: Training, train: TrainConfig, state: _State) -> None:
    state.net.train()
    batches = task.batches(state.epoch, train)
    steps = len(batches)
    with _progress() as progress:
        bar = progress.add_task(f"epoch {state.epoch + 1}/{train.epochs}", total=steps, loss="")
        for step, batch in enumerate(batches):
            position = state.epoch + step / steps
            parts = _step(task, train, state, batch, position / train.epochs)
            loss = sum(parts.values())
            if not math.isfinite(loss):
                raise InputError(f"the loss is {loss} in epoch {state.epoch + 1}; try a lower --learning-rate")
            state.report.record(position + 1 / steps, trn_loss=loss, **{f"trn_{k}": v for k, v in parts.items()})
            progress.update(bar, advance=1, loss=f"loss {loss:.3f}")


def _step(
    task: Training, train: TrainConfig, state: _State, batch: tuple[Tensor, ...], progress: float
) -> dict[str, float]:
    for group in state.optimiser.param_groups:
        group["lr"] = train.learning_rate * one_cycle(progress, train.warm_up)
    moved = tuple(part.to(train.device, non_blocking=True) for part in batch)
    with torch.autocast(torch.device(train.device).type, torch.bfloat16, enabled=train.bfloat16):
        parts = task.losses(moved)
    state.optimiser.zero_grad(set_to_none=True)
    torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.net.parameters(), 10.0)
    state.optimiser.step()
    state.averaged.update_parameters(state.net)
    return {name: value.item() for name, value in parts.items()}


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average that starts short, so that the first weights are soon forgotten."""

    def average(old: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        if not old.is_floating_point():
            return new
        n = int(count)
        return old.lerp(new, 1 - min(decay, (1 + n) / (10 + n)))

    return average


def one_cycle(progress: float, warm_up: float) -> float:
    """Factor of the learning rate at `progress` in 0..1: a linear rise, then half a cosine down to 0."""
    if progress < warm_up:
        return (progress + 1e-3) / (warm_up + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def _prepare(out: Path, resume: bool) -> None:
    if resume and not (out / LAST).is_file():
        raise InputError(f"nothing to resume: no {out / LAST}")
    if not resume and (out / LAST).exists():
        raise InputError(f"{out} already holds a training; add --resume to go on, or name another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {out} ({error})") from error


def _settings(task: Training, train: TrainConfig) -> dict[str, Any]:
    """What decides the result of a training; how many workers and which device do not."""
    return task.config | {"train": {k: v for k, v in asdict(train).items() if k not in ("workers", "device")}}


def _keep(out: Path, task: Training, train: TrainConfig, state: _State, metrics: dict[str, float]) -> None:
    provenance = dict(task.spec.provenance) | {"epochs": f"{state.epoch} of {train.epochs}"}
    provenance |= {k: f"{v:.4g}" for k, v in metrics.items()}
    checkpoint = Checkpoint(
        spec=replace(task.spec, provenance=provenance),
        config=_settings(task, train),
        metrics=metrics,
        weights=state.averaged.module.state_dict(),
    )
    if state.stale == 0:
        save_checkpoint(out / BEST, checkpoint)
    training = {
        "epoch": state.epoch,
        "best": state.best,
        "stale": state.stale,
        "net": state.net.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "rows": [(position, row) for position, row in state.report.rows],
    }
    save_checkpoint(out / LAST, replace(checkpoint, training=training))
    state.report.save_csv(out / "metrics.csv")
    state.report.plot_epochs(["trn_loss", task.score], path=out / "curves.png")


def _restore(out: Path, task: Training, train: TrainConfig, state: _State) -> None:
    checkpoint = load_checkpoint(out / LAST)
    wanted = _settings(task, train)
    changed = [k for k in {**wanted, **checkpoint.config} if checkpoint.config.get(k) != wanted.get(k)]
    if changed:
        raise InputError(f"{out / LAST} was trained with other settings ({', '.join(changed)}); resume with the same")
    kept = checkpoint.training
    if not kept:
        raise InputError(f"{out / LAST} is a finished model, not an interrupted training")
    state.net.load_state_dict(kept["net"])
    state.averaged.load_state_dict(kept["averaged"])
    state.optimiser.load_state_dict(kept["optimiser"])
    for position, row in kept["rows"]:
        state.report.record(position, **row)
    state.epoch, state.best, state.stale = int(kept["epoch"]), float(kept["best"]), int(kept["stale"])


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        console=Console(stderr=True),
        transient=True,
    )
