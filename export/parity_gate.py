"""The gate that every model file passes before it is kept: it says what its reference says, in px."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..bench.parity import ParityGate, Unit, compare_detections, compare_landmarks, parity_of
from ..runtime.errors import CheckFailed
from ..runtime.onnx_runner import OnnxRunner
from ..runtime.runner import Provider, Runner
from ..runtime.spec import Task
from ..runtime.values import Image
from .samples import sample_batch

GATE_BATCHES = (1, 2, 5)
TOLERANCE_PX = 0.05
TOLERANCE_LOGIT = 0.01


def gate(
    path: Path, reference: Runner, *, data: Path | None, batches: Sequence[int] = GATE_BATCHES
) -> tuple[ParityGate, ...]:
    """Compare a model file with its reference at several batch sizes.

    Raises:
        CheckFailed: one of them is beyond its tolerance.
    """
    parities = []
    with OnnxRunner(path, provider=Provider.CPU, threads=1) as candidate:
        for size in batches:
            batch = sample_batch(reference.spec, size, data=data, seed=size)
            parity = compare(reference, candidate, batch)
            if not parity:
                raise CheckFailed(f"parity at batch {size} does not hold: {parity}; the file was not written")
            parities.append(parity)
    return tuple(parities)


def compare(reference: Runner, candidate: Runner, batch: Image) -> ParityGate:
    """Parity of two runners of the same model on one batch."""
    wanted, found = reference(batch), candidate(batch)
    if reference.spec.task is Task.CLASSIFY:
        distance = np.abs(wanted["logits"] - found["logits"])
        return ParityGate((parity_of(distance, unit=Unit.SCORE, tolerance=TOLERANCE_LOGIT),))
    if reference.spec.task is Task.DETECTOR:
        return compare_detections(wanted, found, tolerance_px=TOLERANCE_PX)
    return compare_landmarks(wanted, found, size_px=reference.spec.input_size[0], tolerance_px=TOLERANCE_PX)


def describe(parities: Sequence[ParityGate]) -> str:
    """One line for people."""
    return "; ".join(f"batch {b}: {p}" for b, p in zip(GATE_BATCHES, parities, strict=True))
