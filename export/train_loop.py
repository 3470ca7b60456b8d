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


def fit(task: Training, train: TrainConfig, out: Path, *, resume: bool = False) -> Checkpoint:
    """Train, validate after each epoch, and keep ``last.pt``, ``best.pt``, ``metrics.csv`` and ``curves.png`` in `out`.

    Raises:
        InputError: nothing to resume, or the loss is no longer a number.
        OutputError: `out` cannot be written.
    """
    _prepare(out, resume)
    device = torch.device(train.device)
    net = task.net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = AveragedModel(net, avg_fn=_moving_average(train.average), use_buffers=True)
    trainable = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=train.learning_rate, weight_decay=train.weight_decay)
    report = Report(train.epochs)
    first, best = 0, math.inf
    if resume:
        first, best = _restore(out, task, train, net, averaged, optimiser, report)

    stale = 0
    for epoch in range(first, train.epochs):
        torch.manual_seed(train.seed * 100_003 + epoch)  # dropout too is the same after a resume
        net.train()
        _train_epoch(task, train, net, averaged, optimiser, epoch, report)
        averaged.eval()
        metrics = task.validate(averaged.module)
        report.record(epoch + 1, **metrics)
        improved = metrics[task.score] < best
        best, stale = (metrics[task.score], 0) if improved else (best, stale + 1)
        _keep(out, task, train, net, averaged, optimiser, report, epoch, metrics, best, improved)
        log.info("epoch %d: %s", epoch + 1, "  ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
        if train.patience and stale >= train.patience:
            log.info("stopped early: %s has not improved for %d epochs", task.score, stale)
            break
    return load_checkpoint(out / BEST)


def _train_epoch(
    task: Training,
    train: TrainConfig,
    net: nn.Module,
    averaged: AveragedModel,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    report: Report,
) -> None:
    batches = task.batches(epoch, train)
    steps = len(batches)
    with _progress() as progress:
        bar = progress.add_task(f"epoch {epoch + 1}/{train.epochs}", total=steps, loss="")
        for step, batch in enumerate(batches):
            position = epoch + (step + 1) / steps
            for group in optimiser.param_groups:
                group["lr"] = train.learning_rate * one_cycle((position - 1 / steps) / train.epochs, train.warm_up)
            moved = tuple(part.to(train.device, non_blocking=True) for part in batch)
            with torch.autocast(torch.device(train.device).type, torch.bfloat16, enabled=train.bfloat16):
                parts = task.losses(moved)
            loss = torch.stack(list(parts.values())).sum()
            if not math.isfinite(loss.item()):
                raise InputError(f"the loss is {loss.item()} in epoch {epoch + 1}; try a lower --learning-rate")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimiser.step()
            averaged.update_parameters(net)
            report.record(position, trn_loss=loss.item(), **{f"trn_{k}": v.item() for k, v in parts.items()})
            progress.update(bar, advance=1, loss=f"loss {loss.item():.3f}")


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


def _keep(
    out: Path,
    task: Training,
    train: TrainConfig,
    net: nn.Module,
    averaged: AveragedModel,
    optimiser: torch.optim.Optimizer,
    report: Report,
    epoch: int,
    metrics: dict[str, float],
    best: float,
    improved: bool,
) -> None:
    provenance = dict(task.spec.provenance) | {"epochs": f"{epoch + 1} of {train.epochs}"}
    provenance |= {k: f"{v:.4g}" for k, v in metrics.items()}
    checkpoint = Checkpoint(
        spec=replace(task.spec, provenance=provenance),
        config=task.config | {"train": asdict(train)},
        metrics=metrics,
        weights=averaged.module.state_dict(),
    )
    if improved:
        save_checkpoint(out / BEST, checkpoint)
    training = {
        "epoch": epoch + 1,
        "best": best,
        "net": net.state_dict(),
        "averaged": averaged.state_dict(),
        "optimiser": optimiser.state_dict(),
        "rows": [(position, row) for position, row in report.rows],
    }
    save_checkpoint(out / LAST, replace(checkpoint, training=training))
    report.save_csv(out / "metrics.csv")
    report.plot_epochs(["trn_loss", task.score], path=out / "curves.png")


def _restore(
    out: Path,
    task: Training,
    train: TrainConfig,
    net: nn.Module,
    averaged: AveragedModel,
    optimiser: torch.optim.Optimizer,
    report: Report,
) -> tuple[int, float]:
    checkpoint = load_checkpoint(out / LAST)
    if checkpoint.config != task.config | {"train": asdict(train)}:
        changed = [k for k, v in (task.config | {"train": asdict(train)}).items() if checkpoint.config.get(k) != v]
        raise InputError(f"{out / LAST} was trained with other settings ({', '.join(changed)}); resume with the same")
    state = checkpoint.training
    net.load_state_dict(state["net"])
    averaged.load_state_dict(state["averaged"])
    optimiser.load_state_dict(state["optimiser"])
    for position, row in state["rows"]:
        report.record(position, **row)
    return int(state["epoch"]), float(state["best"])


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        console=Console(stderr=True),
        transient=True,
    )
