"""State of a training run, and the folder that it is saved to and resumed from."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from ...runtime.errors import InputError, OutputError
from ...runtime.models.spec import ModelSpec
from ..networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .config import BEST, CURVES, LAST, METRICS, ProgressCallback, TrainConfig
from .curves import Curves, plot_run
from .history import History

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("mien")

LABELS = "labels_sha256"
"""Setting with the digest of a run's labels and pictures."""
LOSSES = ("trn_loss", "val_loss")
ACCURACIES = ("accuracy", "gender_accuracy")
"""Metrics to plot next to the losses and the score."""
MAY_CHANGE = {"workers", "device", "devices", "nodes", "data", "unlabelled", "epochs"}
"""Settings that may change on resuming, since they affect the result by rounding at most. The exception is a larger
number of epochs, which stretches the remaining learning-rate schedule."""


class Training(Protocol):
    """Task to train: network, data, losses and validation.

    Attributes:
        net: Network to train.
        spec: Description of the model.
        config: Settings that affect the result.
        dataset: Training split; each sample is the network's input followed by its targets.
        score: Validation metric that determines the best epoch; smaller is better.
        trained_by: Name of the network's method to call in training.
    """

    net: nn.Module
    spec: ModelSpec
    config: dict[str, Any]
    dataset: Dataset[Any]
    score: str
    trained_by: str

    def prepare(self, progress: ProgressCallback) -> None:
        """Read the pictures, or compute their features; called once, after `net` was moved to its device."""
        ...

    def losses(self, outputs: Any, targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Compute the weighted terms of the loss.

        Args:
            outputs: Outputs of the method `trained_by`.
            targets: Rest of the batch, after the network's input.
        """
        ...

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Compute metrics on the validation split."""
        ...


@dataclass(slots=True)
class RunState:
    """Everything that changes during a run.

    Attributes:
        net: Network with the current weights.
        averaged: Network with the averaged weights.
        optimizer: Optimizer of `net`.
        forward: The method `Training.trained_by`, with gradients averaged over the processes.
        history: Metrics so far.
        board: TensorBoard's writer; None if TensorBoard is not installed.
        epoch: Number of finished epochs.
        best: Best score so far.
        stale: Epochs since the best one.
        options: Command-line options, which `restore` ignores.
    """

    net: nn.Module
    averaged: AveragedModel
    optimizer: torch.optim.Optimizer
    forward: Callable[[Tensor], Any]
    history: History
    board: Any = None
    epoch: int = 0
    best: float = math.inf
    stale: int = 0
    options: dict[str, Any] = field(default_factory=dict)


def check_run(out: Path, resume: bool) -> None:
    """Check that a run may write to `out`, before any slow work.

    Args:
        out: Folder of the run.
        resume: Whether to continue the run in that folder instead of starting one.

    Raises:
        InputError: The folder already contains a run or a file that a run would overwrite, or there is none to resume.
    """
    if resume and not (out / LAST).is_file():
        raise InputError(f"nothing to resume: no {out / LAST}")
    if not resume and (out / LAST).exists():
        raise InputError(f"{out} already contains a run; continue it with --resume {out}, or choose another --out")
    taken = [name for name in (BEST, METRICS, CURVES) if os.path.lexists(out / name)]
    if not resume and taken:  # of another program, or of a run that was interrupted in its first epoch
        raise InputError(f"a run would overwrite {out / taken[0]}; choose another --out")


@contextlib.contextmanager
def run_folder(out: Path, resume: bool) -> Iterator[None]:
    """Create the folder of a run, and keep other processes from training in it at the same time.

    Raises:
        OutputError: The folder cannot be created.
        InputError: Another process is training in it, or has just done so.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create {out} ({error})") from error
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            folder = os.open(out, os.O_RDONLY)
            stack.callback(os.close, folder)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"another process is training in {out}; wait for it, or choose another --out"
                ) from None
            except OSError as error:
                log.info("%s is not locked (%s)", out, error)  # as on some network drives
        check_run(out, resume)
        log.info("run folder: %s", out)
        yield


def open_tensorboard(out: Path) -> Any:
    """Open TensorBoard's writer; return None if TensorBoard is not installed."""
    try:
        tensorboard: Any = importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return None
    return tensorboard.SummaryWriter(str(out / "tensorboard"))


def save_epoch(out: Path, task: Training, train: TrainConfig, state: RunState, metrics: dict[str, float]) -> None:
    """Write ``last.pt``, ``metrics.csv`` and ``curves.png``, and ``best.pt`` after the best epoch so far.

    Args:
        out: Folder of the run.
        task: Task to train.
        train: Settings of the loop.
        state: State at the end of the epoch.
        metrics: Validation metrics of the epoch.

    Raises:
        OutputError: A checkpoint cannot be written.
    """
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
        "options": state.options,
        "epoch": state.epoch,
        "best": state.best,
        "stale": state.stale,
        "net": state.net.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "rows": [(position, row) for position, row in state.history.rows],
    }
    save_checkpoint(out / LAST, replace(checkpoint, training=training))
    state.history.save_csv(out / METRICS)
    plot_run(
        _curves(state.history, LOSSES),
        _curves(state.history, [task.score, *ACCURACIES], without=LOSSES),
        best_epoch=state.epoch - state.stale,
        path=out / CURVES,
    )
    if state.board is not None:
        state.history.write_scalars(state.board, state.epoch)


def interrupted_run(out: Path, task: Training, train: TrainConfig) -> dict[str, Any]:
    """Return the state in ``last.pt``, after checking that settings and data are unchanged.

    Args:
        out: Folder of the run.
        task: Task to train.
        train: Settings of the loop; the number of epochs may have increased.

    Raises:
        InputError: Settings, classes, labels or pictures have changed, or the file is a finished model.
    """
    checkpoint = load_checkpoint(out / LAST)
    if not checkpoint.training:
        raise InputError(f"{out / LAST} is a finished model, not an interrupted run")
    then, now = _flat(checkpoint.config), _flat(_settings(task, train))
    changed = [_change(k, then.get(k), now.get(k)) for k in {**now, **then} if then.get(k) != now.get(k)]
    if changed:
        raise InputError(f"{out / LAST} was trained with other settings ({'; '.join(changed)}); use the same to resume")
    epochs = int(checkpoint.config["train"]["epochs"])
    if train.epochs < epochs:
        raise InputError(f"{out} was started for {epochs} epochs; --epochs {train.epochs} is fewer")
    if train.epochs > epochs:
        log.info("%d epochs instead of %d; the learning-rate schedule is stretched accordingly", train.epochs, epochs)
    return checkpoint.training


def restore(saved: dict[str, Any], state: RunState) -> None:
    """Load the state of an interrupted run.

    Args:
        saved: Result of `interrupted_run`.
        state: State to overwrite.
    """
    state.net.load_state_dict(saved["net"])
    state.averaged.load_state_dict(saved["averaged"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.history.rows = [(float(position), dict(row)) for position, row in saved["rows"]]
    state.epoch, state.best, state.stale = int(saved["epoch"]), float(saved["best"]), int(saved["stale"])


def _curves(history: History, names: Sequence[str], *, without: Sequence[str] = ()) -> Curves:
    """Return the means by epoch of the metrics that the task has."""
    averages, known = history.averages().items(), set(history.logged).difference(without)
    return {name: [(e, row[name]) for e, row in averages if name in row] for name in names if name in known}


def _change(name: str, then: Any, now: Any) -> str:
    if name == LABELS:
        return "the labels or the pictures have changed"
    then, now = (", ".join(v) if isinstance(v, list) else v for v in (then, now))
    return f"{name} was {then}, is {now}"


def _settings(task: Training, train: TrainConfig) -> dict[str, Any]:
    """Return the settings of a run."""
    return task.config | {"train": asdict(train)}


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Merge the settings of loop and task, except those that may change on resuming."""
    merged = {k: v for k, v in settings.items() if k != "train"} | settings.get("train", {})
    return {k: v for k, v in merged.items() if k not in MAY_CHANGE}
