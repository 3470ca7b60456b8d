"""Training loop that all tasks share."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from ...runtime.errors import InputError
from ...runtime.interrupts import postponed
from ...runtime.wording import counted
from ..networks.checkpoint import Checkpoint, load_checkpoint
from ..networks.frozen_backbone_nets import FrozenBackbone
from .batches import load_batches
from .config import BEST, ProgressCallback, TrainConfig, no_progress
from .history import History
from .run_state import (
    RunState,
    Training,
    check_run,
    interrupted_run,
    open_tensorboard,
    restore,
    run_folder,
    save_epoch,
)
from .torch_errors import explained_errors

log = logging.getLogger("mien")


@explained_errors()
def fit(
    task: Training,
    train: TrainConfig,
    out: Path,
    *,
    resume: bool = False,
    options: Mapping[str, Any] | None = None,
    progress: ProgressCallback = no_progress,
) -> Checkpoint:
    """Train a task, and validate and save it to `out` after each epoch.

    With several processes, the first one validates, writes and reports.

    Args:
        task: Task to train.
        train: Settings of the loop.
        out: Folder for ``last.pt``, ``best.pt``, ``metrics.csv`` and ``curves.png``; created if missing.
        resume: Continue the interrupted run in `out`; the result equals that of an uninterrupted run.
        options: Command-line options to store for a later ``--resume``.
        progress: Called after each batch, also while features are precomputed.

    Returns:
        The checkpoint of the best epoch.

    Raises:
        InputError: An option is invalid, there is nothing to resume, or the loss is not finite.
        OutputError: `out` cannot be written.
        ProcessFailed: A process that prepares batches ended.
        MemoryError: There is not enough memory.
    """
    if not train.learning_rate > 0:
        raise InputError(f"expected a --learning-rate above 0, found {train.learning_rate}")
    check_run(out, resume)
    saved = interrupted_run(out, task, train) if resume else {}
    fabric = _fabric(train)
    first = fabric.is_global_zero
    if first:
        _warn_if_untrained(task)
    else:
        progress = no_progress
    # Entered after the other processes have started, as they must choose the same free name.
    with run_folder(out, resume) if first else contextlib.nullcontext():
        task.net.to(fabric.device)
        task.prepare(progress)
        state = _start(fabric, task, train)
        state.options = dict(options or {})
        if resume:
            restore(saved, state)
        _train_epochs(fabric, task, train, out, state, progress)
    return load_checkpoint(out / BEST)


def _warn_if_untrained(task: Training) -> None:
    if isinstance(task.net, FrozenBackbone) and task.config["weights"] == "none":
        log.warning("--weights none: the frozen backbone is untrained, and its random features teach the head little")


def _train_epochs(
    fabric: Fabric, task: Training, train: TrainConfig, out: Path, state: RunState, progress: ProgressCallback
) -> None:
    first = fabric.is_global_zero
    state.board = open_tensorboard(out) if first else None
    while state.epoch < train.epochs and not _has_stopped(train, state):
        # Dropout must be the same after resuming, but differ between processes.
        torch.manual_seed((train.seed * 100_003 + state.epoch) * fabric.world_size + fabric.global_rank)
        _train_epoch(fabric, task, train, state, progress)
        metrics: dict[str, float] = fabric.broadcast(_validate(task, state) if first else {})
        state.epoch += 1
        _check_finite(task.score, metrics[task.score], state.epoch)
        state.history.add(state.epoch, metrics)
        improved = metrics[task.score] < state.best
        state.best, state.stale = (metrics[task.score], 0) if improved else (state.best, state.stale + 1)
        if first:
            save_epoch(out, task, train, state, metrics)
            shown = {"trn_loss": state.history.averages()[state.epoch]["trn_loss"], **metrics}
            log.info("epoch %d: %s", state.epoch, "  ".join(f"{k} {v:.4g}" for k, v in shown.items()))
        fabric.barrier()
    if first and _has_stopped(train, state):
        log.info("stopped early: %s has not improved for %s", task.score, counted(state.stale, "epoch"))
    if state.board is not None:
        state.board.close()


def is_first_process() -> bool:
    """Return whether this process writes and reports; in distributed training, only the first one does."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _has_stopped(train: TrainConfig, state: RunState) -> bool:
    return bool(train.patience) and state.stale >= train.patience


def _fabric(train: TrainConfig) -> Fabric:
    kind, _, number = train.device.partition(":")
    if number and train.devices > 1:
        raise InputError(f"--device {train.device} is a single device, but --devices is {train.devices}")
    try:
        fabric = Fabric(
            accelerator=kind,
            devices=[int(number)] if number else train.devices,
            num_nodes=train.nodes,
            strategy="ddp" if train.devices * train.nodes > 1 else "auto",
            precision="bf16-mixed" if train.bfloat16 else "32-true",
        )
    except (RuntimeError, ValueError, TypeError, ModuleNotFoundError) as error:
        usable = ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
        if torch.backends.mps.is_available():
            usable.append("mps")
        raise InputError(f"--device {train.device}: this machine's PyTorch has {', '.join(usable)}") from error
    fabric.launch()
    return fabric


def _batches(fabric: Fabric, task: Training, train: TrainConfig, epoch: int) -> DataLoader[tuple[Tensor, ...]]:
    return load_batches(task.dataset, epoch, train, rank=fabric.global_rank, world_size=fabric.world_size)


def _start(fabric: Fabric, task: Training, train: TrainConfig) -> RunState:
    if len(_batches(fabric, task, train, 0)) == 0:
        raise InputError(f"fewer samples than processes ({fabric.world_size}); use fewer --devices, or add data")
    net = task.net.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = AveragedModel(net, avg_fn=_moving_average(train.average), use_buffers=True)
    trainable = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=train.learning_rate, weight_decay=train.weight_decay)
    forward, wrapped_optimizer = fabric.setup(_TrainedMethod(net, task.trained_by), optimizer)
    return RunState(net, averaged, wrapped_optimizer, forward, History(train.epochs))


class _TrainedMethod(nn.Module):
    """A network whose `forward` is the method to train.

    Fabric's `mark_forward_method` would not do: without a wrapper for several processes, such a method is called
    directly, in float32 whatever the precision.
    """

    def __init__(self, net: nn.Module, method: str) -> None:
        super().__init__()
        self.net = net
        self._method = method

    def forward(self, inputs: Tensor) -> Any:
        return getattr(self.net, self._method)(inputs)


def _train_epoch(
    fabric: Fabric, task: Training, train: TrainConfig, state: RunState, progress: ProgressCallback
) -> None:
    _switch_to_training(state.net)
    batches = _batches(fabric, task, train, state.epoch)
    steps, title = len(batches), f"epoch {state.epoch + 1}/{train.epochs}"
    progress(title, 0, steps)
    with postponed():  # a signal that strikes while the workers are forked would be lost
        loaded = iter(batches)
    for step, batch in enumerate(loaded):
        position = state.epoch + step / steps
        terms = _step(fabric, task, train, state, batch, position / train.epochs)
        loss = sum(terms.values())
        state.history.add(position + 1 / steps, {"trn_loss": loss, **{f"trn_{k}": v for k, v in terms.items()}})
        progress(f"{title}  loss {loss:.3f}  {_duration(state.history.seconds_left())}", step + 1, steps)


def _switch_to_training(net: nn.Module) -> None:
    """Switch to training mode, except for frozen batch normalization, which keeps its statistics too."""
    net.train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and not any(p.requires_grad for p in module.parameters()):
            module.eval()


def _step(
    fabric: Fabric, task: Training, train: TrainConfig, state: RunState, batch: tuple[Tensor, ...], position: float
) -> dict[str, float]:
    for group in state.optimizer.param_groups:
        group["lr"] = train.learning_rate * one_cycle(position, train.warm_up)
    inputs, *targets = (part.to(fabric.device, non_blocking=True) for part in batch)
    terms = task.losses(state.forward(inputs), tuple(targets))
    state.optimizer.zero_grad(set_to_none=True)
    loss = torch.stack(list(terms.values())).sum()
    fabric.backward(loss)
    norm = nn.utils.clip_grad_norm_(state.net.parameters(), 10.0)
    for name, value in (("loss", loss), ("gradient", norm)):
        _check_finite(name, value.item(), state.epoch + 1)
    state.optimizer.step()
    state.averaged.update_parameters(state.net)
    return {name: value.item() for name, value in terms.items()}


def _check_finite(name: str, value: float, epoch: int) -> None:
    """Raise InputError for a training that diverges, before it spoils the weights, here or in ``last.pt``."""
    if not math.isfinite(value):
        raise InputError(f"the {name} is {value} in epoch {epoch}; try a lower --learning-rate")


def _validate(task: Training, state: RunState) -> dict[str, float]:
    state.averaged.eval()
    return task.validate(state.averaged.module)


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return an exponential moving average with a short initial memory, so that the first weights fade quickly."""

    def average(old: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        if not old.is_floating_point():
            return new
        n = int(count)
        return old.lerp(new, 1 - min(decay, (1 + n) / (10 + n)))

    return average


def one_cycle(position: float, warm_up: float) -> float:
    """Return the factor of the learning rate: a linear rise, then half a cosine down to 0.

    Args:
        position: Progress of the training, 0 to 1.
        warm_up: Position at which the rise ends.
    """
    if position < warm_up:
        return (position + 1e-3) / (warm_up + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (position - warm_up) / (1 - warm_up)))


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left"
