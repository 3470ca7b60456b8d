"""The gate that every model file passes before it is kept: it says what its reference says, in task units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bench.parity import (
    ParityGate,
    compare_age_gender,
    compare_classes,
    compare_detections,
    compare_faces,
    compare_landmarks,
)
from ..runtime.errors import CheckFailed
from ..runtime.onnx_runner import OnnxRunner
from ..runtime.runner import Precision, Provider, Runner
from ..runtime.spec import Task
from ..runtime.values import Image
from .samples import sample_batch

GATE_BATCHES = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What may differ: px of the model's input, years, scores and logits; nme: of a face's mean distance, percent."""

    px: float
    years: float
    score: float
    logit: float
    nme: float | None = None


TOLERANCES = {
    Precision.FP32: Tolerance(px=0.05, years=0.01, score=0.001, logit=0.01),
    Precision.FP16: Tolerance(px=0.25, years=0.25, score=0.02, logit=0.1),
    # Single points move: a face's mean is what int8 must keep.
    Precision.INT8: Tolerance(px=4.0, years=3.0, score=0.1, logit=1.0, nme=1.5),
}


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
    """Parity of two runners of the same model on one batch, within what the candidate's precision may lose."""
    wanted, found = reference(batch), candidate(batch)
    spec, tolerance = reference.spec, TOLERANCES[candidate.precision]
    if spec.task is Task.CLASSIFY:
        (output,) = spec.outputs
        allowed = tolerance.logit if output == "logits" else tolerance.score
        return compare_classes(wanted, found, output=output, tolerance_score=allowed)
    if spec.task is Task.AGE_GENDER:
        return compare_age_gender(wanted, found, tolerance_years=tolerance.years, tolerance_score=tolerance.score)
    if spec.task is Task.DETECTOR:
        return compare_detections(wanted, found, tolerance_px=tolerance.px, tolerance_score=tolerance.score)
    if tolerance.nme is not None:
        return compare_faces(wanted, found, tolerance_nme=tolerance.nme, tolerance_score=tolerance.score)
    return compare_landmarks(
        wanted, found, size_px=spec.input_size[0], tolerance_px=tolerance.px, tolerance_score=tolerance.score
    )


def describe(parities: Sequence[ParityGate]) -> str:
    """One line for people."""
    return "; ".join(f"batch {b}: {p}" for b, p in zip(GATE_BATCHES, parities, strict=True))
