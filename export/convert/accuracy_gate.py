"""The second gate of files in smaller numbers: they must be as accurate, on labelled data that training kept out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mien.bench.accuracy.accuracy import Accuracy, Metric, accuracy_of, folder_for
from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.errors import CheckFailed, InputError
from mien.runtime.models.runner import Provider, Runner
from mien.runtime.models.spec import ModelSpec, Precision, Task

log = logging.getLogger("mien")

MAY_LOSE = {
    Precision.FP16: {Metric.NME: 0.05, Metric.MAE: 0.1, Metric.AP50: 0.2, Metric.ACCURACY: 0.5},
    Precision.INT8: {Metric.NME: 0.2, Metric.MAE: 0.2, Metric.AP50: 1.0, Metric.ACCURACY: 1.0},
}
"""How much worse than float32 a file may be: percentage points, years."""


@dataclass(frozen=True, slots=True)
class AccuracyLoss:
    """Accuracy of a file beside its reference's on the same samples; true if it lost no more than `tolerance`."""

    reference: Accuracy
    found: Accuracy
    tolerance: float

    @property
    def lost(self) -> float:
        """How much worse the file is, in the metric's unit; negative if it is better."""
        change = self.found.value - self.reference.value
        return -change if self.found.metric.higher_is_better else change

    def __bool__(self) -> bool:
        return self.lost <= self.tolerance

    def __str__(self) -> str:
        return (
            f"{self.found.metric.value} {self.found} against {self.reference} on {self.found.count} held-out samples "
            f"(lost {self.lost:.3f}, may lose {self.tolerance:g})"
        )


@dataclass(frozen=True, slots=True)
class Standard:
    """How accurate a reference is on a labelled folder."""

    folder: Path
    accuracy: Accuracy


def standard_of(reference: Runner, folders: Sequence[Path]) -> Standard | None:
    """Measure a reference on what training keeps out of the first folder with labels for it; None without one."""
    folder = _labelled(reference.spec, folders)
    if folder is None:
        return None
    try:
        return Standard(folder, accuracy_of(reference, folder, held_out=True))
    except InputError as error:  # too few samples for any to be held out
        log.warning("accuracy cannot be measured: %s", error)
        return None


def _labelled(spec: ModelSpec, folders: Sequence[Path]) -> Path | None:
    if spec.task is Task.CLASSIFY:  # any folder of pictures could be one, but only its own classes are labels
        return next((f for f in folders if all((f / name).is_dir() for name in spec.classes)), None)
    return folder_for(spec.task, folders)


def check_accuracy(path: Path, precision: Precision, wanted: Standard) -> AccuracyLoss:
    """Measure a model file as its reference was.

    Raises:
        CheckFailed: it lost more than its precision may.
    """
    with OnnxRunner(path, provider=Provider.CPU, threads=1) as runner:
        found = accuracy_of(runner, wanted.folder, held_out=True)
    loss = AccuracyLoss(wanted.accuracy, found, MAY_LOSE[precision][found.metric])
    if not loss:
        raise CheckFailed(f"accuracy does not hold: {loss}; the file was not written")
    return loss
