"""The training loop: one page, read from top to bottom."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Sized
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from mien.export.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mien.export.training.config import Share, TrainConfig
from mien.export.training.history import Report
from mien.runtime.errors import InputError, OutputError
from mien.runtime.models.spec import ModelSpec
from mien.runtime.values import FloatArray, Image

log = logging.getLogger("mien")

LAST, BEST = "last.pt", "best.pt"


class Training(Protocol):
    """What a task brings to the loop."""

    net: nn.Module
    spec: ModelSpec
    config: dict[str, Any]
    score: str
    """The validation metric that decides which epoch is best; smaller is better."""
    trained_by: str
    """The method of the network that a batch's first part goes through in training."""

    def batches(self, epoch: int, train: TrainConfig, share: Share) -> DataLoader[tuple[Tensor, ...]]:
        """Load the batches of an epoch; the same epoch gives the same batches."""
        ...

    def losses(self, outputs: Any, targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Parts of the loss, already weighted; their sum is minimised. targets: the rest of the batch."""
        ...

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Metrics on the validation split."""
        ...


@dataclass(slots=True)
class _State:
    """What changes while a training runs, and what a resume needs back."""

    net: nn.Module
    averaged: AveragedModel
    optimizer: torch.optim.Optimizer
    forward: Callable[[Tensor], Any]
    """`Training.trained_by`, with gradients averaged over the processes."""
    report: Report
    board: Any = None
    """A TensorBoard writer, where it is installed."""
    epoch: int = 0
    best: float = math.inf
    stale: int = 0
    """Epochs since the best one."""


def fit(task: Training, train: TrainConfig, out: Path, *, resume: bool = False) -> Checkpoint:
    """Train, validate after each epoch, and keep ``last.pt``, ``best.pt``, ``metrics.csv`` and ``curves.png`` in `out`.

    With several processes the first validates and writes.

    Raises:
        InputError: options that cannot work, nothing to resume, or a loss that is no longer a number.
        OutputError: `out` cannot be written.
    """
    check_run(out, resume)
    _make_folder(out)
    fabric = _fabric(train)
    first = fabric.is_global_zero
    state = _start(fabric, task, train)
    if resume:
        _restore(out, task, train, state)
    state.board = _tensorboard(out) if first else None
    while state.epoch < train.epochs and not _has_stopped(train, state):
        # Dropout too is the same after a resume, and another in each process.
        torch.manual_seed((train.seed * 100_003 + state.epoch) * fabric.world_size + fabric.global_rank)
        _train_epoch(fabric, task, train, state)
        metrics: dict[str, float] = fabric.broadcast(_validate(task, state) if first else {})
        state.epoch += 1
        state.report.record(state.epoch, **metrics)
        improved = metrics[task.score] < state.best
        state.best, state.stale = (metrics[task.score], 0) if improved else (state.best, state.stale + 1)
        if first:
            _keep(out, task, train, state, metrics)
            log.info("epoch %d: %s", state.epoch, "  ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
        fabric.barrier()
    if first and _has_stopped(train, state):
        log.info("stopped early: %s has not improved for %d epochs", task.score, state.stale)
    if state.board is not None:
        state.board.close()
    return load_checkpoint(out / BEST)


def _has_stopped(train: TrainConfig, state: _State) -> bool:
    return bool(train.patience) and state.stale >= train.patience


def is_first_process() -> bool:
    """Whether this process is the one that speaks, of those that train together."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _fabric(train: TrainConfig) -> Fabric:
    kind, _, number = train.device.partition(":")
    if number and train.devices > 1:
        raise InputError(f"--device {train.device} is one device, --devices asks for {train.devices}")
    try:
        fabric = Fabric(
            accelerator=kind,
            devices=[int(number)] if number else train.devices,
            num_nodes=train.nodes,
            strategy="ddp" if train.devices * train.nodes > 1 else "auto",
            precision="bf16-mixed" if train.bfloat16 else "32-true",
        )
    except (RuntimeError, ValueError, TypeError, ModuleNotFoundError) as error:
        raise InputError(f"--device {train.device} cannot be used ({str(error).splitlines()[0]})") from error
    fabric.launch()
    return fabric


def _start(fabric: Fabric, task: Training, train: TrainConfig) -> _State:
    if not train.learning_rate > 0:
        raise InputError(f"wanted a learning rate above 0, found {train.learning_rate}")
    if len(task.batches(0, train, Share(fabric.global_rank, fabric.world_size))) == 0:
        raise InputError(f"not one batch of {train.batch_size}: take a smaller --batch-size or more data")
    net = task.net.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = AveragedModel(net, avg_fn=_moving_average(train.average), use_buffers=True)
    trainable = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=train.learning_rate, weight_decay=train.weight_decay)
    wrapped, wrapped_optimiser = fabric.setup(net, optimizer)
    wrapped.mark_forward_method(task.trained_by)
    return _State(net, averaged, wrapped_optimiser, getattr(wrapped, task.trained_by), Report(train.epochs))


def _train_epoch(fabric: Fabric, task: Training, train: TrainConfig, state: _State) -> None:
    state.net.train()
    batches = task.batches(state.epoch, train, Share(fabric.global_rank, fabric.world_size))
    steps = len(batches)
    with _progress(visible=fabric.is_global_zero) as progress:
        bar = progress.add_task(f"epoch {state.epoch + 1}/{train.epochs}", total=steps, loss="", left="")
        for step, batch in enumerate(batches):
            position = state.epoch + step / steps
            parts = _step(fabric, task, train, state, batch, position / train.epochs)
            loss = sum(parts.values())
            if not math.isfinite(loss):
                raise InputError(f"the loss is {loss} in epoch {state.epoch + 1}; try a lower --learning-rate")
            state.report.record(position + 1 / steps, trn_loss=loss, **{f"trn_{k}": v for k, v in parts.items()})
            progress.update(bar, advance=1, loss=f"loss {loss:.3f}", left=_duration(state.report.seconds_left()))


def _step(
    fabric: Fabric, task: Training, train: TrainConfig, state: _State, batch: tuple[Tensor, ...], progress: float
) -> dict[str, float]:
    for group in state.optimizer.param_groups:
        group["lr"] = train.learning_rate * one_cycle(progress, train.warm_up)
    inputs, *targets = (part.to(fabric.device, non_blocking=True) for part in batch)
    parts = task.losses(state.forward(inputs), tuple(targets))
    state.optimizer.zero_grad(set_to_none=True)
    fabric.backward(torch.stack(list(parts.values())).sum())
    nn.utils.clip_grad_norm_(state.net.parameters(), 10.0)
    state.optimizer.step()
    state.averaged.update_parameters(state.net)
    return {name: value.item() for name, value in parts.items()}


def _validate(task: Training, state: _State) -> dict[str, float]:
    state.averaged.eval()
    return task.validate(state.averaged.module)


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


def shuffled(items: Sized, epoch: int, train: TrainConfig, share: Share) -> DataLoader[tuple[Tensor, ...]]:
    """Load a process's share of a dataset, in an order of the epoch's own; a last batch that is not full is dropped."""
    generator = torch.Generator().manual_seed(train.seed * 100_003 + epoch)
    order = torch.randperm(len(items), generator=generator).tolist()
    mine = order[share.rank : len(order) // share.of * share.of : share.of]
    return DataLoader(
        items,  # type: ignore[arg-type]
        batch_size=train.batch_size,
        sampler=mine,
        drop_last=len(mine) > train.batch_size,
        num_workers=train.workers,
    )


def in_batches(net: nn.Module, method: str, inputs: Tensor, *, batch: int = 64) -> Tensor:
    """What one method of a network, in evaluation mode, says of all inputs (n, …), float32 on the CPU."""
    net.eval()
    device = next(net.parameters()).device
    run = getattr(net, method)
    with torch.inference_mode():
        return torch.cat([run(part.to(device)).float().cpu() for part in torch.split(inputs, batch)]).clone()


def predict_batches(net: nn.Module, images: Image, *, batch: int = 64) -> tuple[FloatArray, ...]:
    """Outputs of a network, in evaluation mode, for crops (n, h, w, 3)."""
    device = next(net.parameters()).device
    net.eval()
    with torch.inference_mode():
        parts = [net(torch.from_numpy(images[i : i + batch]).to(device)) for i in range(0, len(images), batch)]
    return tuple(torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))


def check_run(out: Path, resume: bool) -> None:
    """Make sure that a training may write to `out`; ask before anything that takes time.

    Raises:
        InputError: a training that is in the way, or none to resume.
    """
    if resume and not (out / LAST).is_file():
        raise InputError(f"nothing to resume: no {out / LAST}")
    if not resume and (out / LAST).exists():
        raise InputError(f"{out} already holds a training; add --resume to go on, or name another --out")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {out} ({error})") from error


NOT_DECISIVE = {"workers", "device", "devices", "nodes"}


def _settings(task: Training, train: TrainConfig) -> dict[str, Any]:
    """What decides the result of a training; where it runs does not, but for rounding."""
    return task.config | {"train": {k: v for k, v in asdict(train).items() if k not in NOT_DECISIVE}}


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with those of the loop beside the task's."""
    return {k: v for k, v in settings.items() if k != "train"} | settings.get("train", {})


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
        "optimizer": state.optimizer.state_dict(),
        "rows": [(position, row) for position, row in state.report.rows],
    }
    save_checkpoint(out / LAST, replace(checkpoint, training=training))
    state.report.save_csv(out / "metrics.csv")
    state.report.plot_epochs(list(dict.fromkeys(["trn_loss", "val_loss", task.score])), path=out / "curves.png")
    if state.board is not None:
        state.report.write_scalars(state.board, state.epoch)


def _tensorboard(out: Path) -> Any:
    try:
        tensorboard: Any = importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return None
    return tensorboard.SummaryWriter(str(out / "tensorboard"))


def _restore(out: Path, task: Training, train: TrainConfig, state: _State) -> None:
    checkpoint = load_checkpoint(out / LAST)
    then, now = _flat(checkpoint.config), _flat(_settings(task, train))
    changed = [f"{k} was {then.get(k)}, is {now.get(k)}" for k in {**now, **then} if then.get(k) != now.get(k)]
    if changed:
        raise InputError(f"{out / LAST} was trained with other settings ({'; '.join(changed)}); resume with the same")
    kept = checkpoint.training
    if not kept:
        raise InputError(f"{out / LAST} is a finished model, not an interrupted training")
    state.net.load_state_dict(kept["net"])
    state.averaged.load_state_dict(kept["averaged"])
    state.optimizer.load_state_dict(kept["optimizer"])
    state.report.rows = [(float(position), dict(row)) for position, row in kept["rows"]]
    state.epoch, state.best, state.stale = int(kept["epoch"]), float(kept["best"]), int(kept["stale"])


def _progress(*, visible: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[loss]}  {task.fields[left]}"),
        console=Console(stderr=True),
        transient=True,
        disable=not visible,
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left"
