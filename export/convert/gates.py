"""Checks that a model file must pass before it is written: parity with its reference, and accuracy on labelled data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...bench.accuracy.accuracy import Accuracy, Metric, accuracy_of, folder_for
from ...bench.data.class_layout import has_classes
from ...bench.data.non_faces import without_faces
from ...bench.data.sample_inputs import Subset, sample_batch
from ...bench.parity.compare_outputs import compare_outputs
from ...bench.parity.parity import ParityGate, Unit, parity_of
from ...bench.parity.tolerances import TOLERANCES
from ...bench.timing.speedup import Ratio
from ...runtime.backends.ort.onnx_runner import OnnxRunner
from ...runtime.errors import CheckFailed, InputError, OutputError
from ...runtime.models.input_shapes import INPUT
from ...runtime.models.runner import Provider, Runner
from ...runtime.models.spec import ModelSpec, Precision, Task
from ...runtime.output_paths import check_writable, same_file
from ...runtime.values import Image
from ...runtime.wording import counted
from .half_storage import session_storing_halves

log = logging.getLogger("mien")

GATE_BATCHES = (1, 2, 5)
NON_FACES = 28
"""Number of pictures without a face on which presence is compared."""
MAX_LOSS = {
    Precision.FP16: {Metric.NME: 0.05, Metric.MAE: 0.1, Metric.AP50: 0.2, Metric.ACCURACY: 0.5},
    Precision.INT8: {Metric.NME: 0.2, Metric.MAE: 0.2, Metric.AP50: 1.0, Metric.ACCURACY: 1.0},
}
"""Maximum loss of accuracy against float32, in percentage points or years."""


def check_output(source: Path, output: Path) -> None:
    """Check that `output` is a writable .onnx file other than `source`.

    Raises:
        OutputError: It has another suffix, is `source`, or cannot be written.
    """
    if output.suffix.lower() != ".onnx" or same_file(output, source):
        raise OutputError(f"expected an output file NAME.onnx other than the source, found {output}")
    check_writable(output)


@dataclass(frozen=True, slots=True)
class AccuracyLoss:
    """Accuracy of a file and of its reference on the same samples; true if the loss is within `tolerance`."""

    reference: Accuracy
    found: Accuracy
    tolerance: float

    @property
    def lost(self) -> float:
        """Loss in the metric's unit; negative if the file is more accurate than its reference."""
        change = self.found.value - self.reference.value
        return -change if self.found.metric.higher_is_better else change

    def __bool__(self) -> bool:
        return self.lost <= self.tolerance

    def __str__(self) -> str:
        return (
            f"{self.found.metric.value} {self.found} against {self.reference} on "
            f"{counted(self.found.count, 'held-out sample')} (lost {self.lost:.3f}, may lose {self.tolerance:g})"
        )


@dataclass(frozen=True, slots=True)
class Exported:
    """A model file that has passed its checks.

    Attributes:
        path: The file.
        parities: Parity at each of `GATE_BATCHES`.
        accuracy: Loss of accuracy of an fp16 or int8 file, if there were labels.
        float_layers: Layers of an int8 file that stay in float.
        layers: Number of layers that could be int8; 0 if none had to stay in float.
        speed_up: Speed-up of an int8 file over float32, if measured.
    """

    path: Path
    parities: tuple[ParityGate, ...]
    accuracy: AccuracyLoss | None = None
    float_layers: tuple[str, ...] = ()
    layers: int = 0
    speed_up: Ratio | None = None

    @property
    def size_bytes(self) -> int:
        """Size of the file in bytes."""
        return self.path.stat().st_size

    def describe_parity(self) -> str:
        """Describe the parity at each batch size in one line."""
        return "; ".join(f"batch {b}: {p}" for b, p in zip(GATE_BATCHES, self.parities, strict=True))


@dataclass(frozen=True, slots=True)
class ReferenceAccuracy:
    """Accuracy of a reference model on the held-out part of a labelled folder."""

    folder: Path
    accuracy: Accuracy


@dataclass(frozen=True, slots=True)
class Gates:
    """Parity and accuracy checks of one export.

    Attributes:
        reference: Model that the file must match.
        data: Folder of pictures for parity; None for the demo photograph.
        subset: Part of `data` that parity is checked on.
        accuracy: Accuracy of the reference; None to check parity alone.
    """

    reference: Runner
    data: Path | None
    subset: Subset = Subset.ALL
    accuracy: ReferenceAccuracy | None = None

    def check(self, path: Path) -> tuple[tuple[ParityGate, ...], AccuracyLoss | None]:
        """Check a model file.

        Returns:
            Parity at each of `GATE_BATCHES`, and the loss of accuracy if it was measured.

        Raises:
            CheckFailed: A deviation exceeds its tolerance.
        """
        with OnnxRunner(path, provider=Provider.CPU, threads=1) as candidate:
            parities = check_parity(path, candidate, self.reference, data=self.data, subset=self.subset)
            return parities, None if self.accuracy is None else check_accuracy(candidate, self.accuracy)


def check_parity(
    path: Path, candidate: Runner, reference: Runner, *, data: Path | None, subset: Subset = Subset.ALL
) -> tuple[ParityGate, ...]:
    """Compare a model file with its reference at several batch sizes; fp16 also as a GPU would compute it.

    Args:
        path: Model file.
        candidate: Runner of that file.
        reference: Model whose outputs it must reproduce.
        data: Folder of pictures; None for the demo photograph.
        subset: Part of `data` to take inputs from.

    Returns:
        Parity at each of `GATE_BATCHES`.

    Raises:
        CheckFailed: A deviation exceeds its tolerance.
    """
    parities = []
    storing = session_storing_halves(path) if candidate.precision is Precision.FP16 else None
    for size in GATE_BATCHES:
        batch = sample_batch(reference.spec, size, data=data, seed=size, subset=subset)
        wanted, found = reference(batch), [candidate(batch)]
        if storing is not None:
            found.append(dict(zip(reference.spec.outputs, storing.run(None, {INPUT: batch}), strict=True)))
        compared = [compare_outputs(reference.spec, candidate.precision, wanted, outputs) for outputs in found]
        if (failed := next((parity for parity in compared if not parity), None)) is not None:
            raise CheckFailed(f"parity check failed at batch {size}: {failed}; the file was not written")
        parities.append(compared[-1])
    if "presence" in reference.spec.outputs:
        check_presence(candidate, reference, sample_batch(reference.spec, NON_FACES, data=data, seed=0, subset=subset))
    return tuple(parities)


def check_presence(candidate: Runner, reference: Runner, crops: Image) -> None:
    """Compare the probabilities of a face where there is none.

    Args:
        candidate: Landmark model to check.
        reference: Model whose presence it must reproduce.
        crops: Crops of faces (n, h, w, 3), uint8 BGR, of which pictures without faces are made.

    Raises:
        CheckFailed: A deviation exceeds the tolerance of a score.
    """
    batch = without_faces(crops, np.random.default_rng(0))
    deviations = np.abs(candidate(batch)["presence"] - reference(batch)["presence"])
    parity = parity_of(deviations, unit=Unit.SCORE, tolerance=TOLERANCES[candidate.precision].score)
    if not parity:
        raise CheckFailed(f"presence check failed on pictures without a face: {parity}; the file was not written")


def measure_reference(reference: Runner, folders: Sequence[Path]) -> ReferenceAccuracy | None:
    """Measure a reference on the held-out part of the first folder with labels for its task.

    Returns:
        The accuracy, or None if no folder has labels or too few samples to hold some out.
    """
    folder = _labelled(reference.spec, folders)
    if folder is None:
        return None
    try:
        return ReferenceAccuracy(folder, accuracy_of(reference, folder, held_out=True))
    except InputError as error:  # too few samples to hold any out
        log.warning("accuracy cannot be measured: %s", error)
        return None


def _labelled(spec: ModelSpec, folders: Sequence[Path]) -> Path | None:
    if spec.task is Task.CLASSIFY:  # any folder of pictures could be labelled; require this model's class names
        return next((folder for folder in folders if has_classes(folder, spec.classes)), None)
    return folder_for(spec.task, folders)


def check_accuracy(candidate: Runner, reference: ReferenceAccuracy) -> AccuracyLoss:
    """Measure a model on the same samples as its reference.

    Raises:
        CheckFailed: The loss exceeds `MAX_LOSS`.
    """
    found = accuracy_of(candidate, reference.folder, held_out=True)
    loss = AccuracyLoss(reference.accuracy, found, MAX_LOSS[candidate.precision][found.metric])
    if not loss:
        raise CheckFailed(f"accuracy check failed: {loss}; the file was not written")
    return loss
