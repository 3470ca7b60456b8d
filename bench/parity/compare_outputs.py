"""Compares the outputs of a model with those of its reference, in the units of its task."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...runtime.errors import CheckFailed
from ...runtime.models.spec import ModelSpec, Precision, Task
from ...runtime.values import FloatArray
from ..accuracy.metrics import normalized_mean_error
from .parity import Parity, ParityGate, Unit, parity_of
from .tolerances import TOLERANCES, Tolerance

Outputs = Mapping[str, FloatArray]
MIN_SCORE = 0.05
"""Boxes with a lower score in the reference are never reported, so their position does not matter."""


def compare_outputs(spec: ModelSpec, precision: Precision, wanted: Outputs, found: Outputs) -> ParityGate:
    """Compare the outputs of a model with those of its reference, by its task.

    Args:
        spec: The model's description.
        precision: Precision of the candidate, which sets the tolerances.
        wanted: Outputs of the reference for a batch.
        found: Outputs of the candidate for the same batch.

    Raises:
        CheckFailed: An output is missing or has another shape.
    """
    tolerance = TOLERANCES[precision]
    if spec.task is Task.DETECTOR:
        return compare_detections(wanted, found, tolerance)
    if spec.task is Task.LANDMARKS:
        return compare_landmarks(wanted, found, tolerance, size_px=spec.input_size[0])
    if spec.task is Task.CLASSIFY:
        (output,) = spec.outputs
        allowed = tolerance.logit if output == "logits" else tolerance.score
        return ParityGate((_compare(wanted, found, output, Unit.SCORE, allowed),))
    years = [name for name in ("age", "age_std") if name in wanted]
    parts = [_compare(wanted, found, name, Unit.YEARS, tolerance.years) for name in years]
    return ParityGate((*parts, _compare(wanted, found, "female", Unit.SCORE, tolerance.score)))


def compare_landmarks(wanted: Outputs, found: Outputs, tolerance: Tolerance, *, size_px: int) -> ParityGate:
    """Compare landmarks by point or, if the tolerance has an NME, by face; and presence if the model has it.

    Args:
        wanted: Outputs ``landmarks`` (b, 68, 3) in fractions of the crop and, optionally, ``presence`` (b,).
        found: Outputs of the same shapes.
        tolerance: Maximum deviations.
        size_px: Side of the crop.
    """
    a, b = _pair(wanted, found, "landmarks")
    if tolerance.nme is None:
        distance = np.linalg.norm(_difference(a, b), axis=-1) * size_px
        parts = [parity_of(distance, unit=Unit.PX, tolerance=tolerance.px)]
    else:
        errors = normalized_mean_error(b.astype(np.float64), a.astype(np.float64))
        parts = [parity_of(errors, unit=Unit.NME, tolerance=tolerance.nme)]
    if "presence" in wanted:
        parts.append(_compare(wanted, found, "presence", Unit.SCORE, tolerance.score))
    return ParityGate(tuple(parts))


def compare_detections(wanted: Outputs, found: Outputs, tolerance: Tolerance) -> ParityGate:
    """Compare the raw rows of a detector: boxes by the side that deviates most, and scores.

    Boxes count where the reference's score is above `MIN_SCORE`, or where either box is not finite.

    Args:
        wanted: Outputs ``boxes`` (b, n, 4) in px and ``scores`` (b, n).
        found: Outputs of the same shapes.
        tolerance: Maximum deviations.
    """
    boxes, scores = _pair(wanted, found, "boxes"), _pair(wanted, found, "scores")
    if boxes[0].shape[:-1] != scores[0].shape:
        raise CheckFailed(f"expected one score per box, found boxes {boxes[0].shape} and scores {scores[0].shape}")
    worst = _difference(*boxes).max(axis=-1)
    shift, unit = tolerance.box_shift
    if unit is Unit.SIDE:
        sides = (boxes[0][..., 2:] - boxes[0][..., :2]).max(axis=-1)
        worst = 100 * worst / np.maximum(sides, 1.0)
    counted = (scores[0] > MIN_SCORE) | ~np.isfinite(worst)
    return ParityGate(
        (
            parity_of(worst[counted], unit=unit, tolerance=shift),
            parity_of(_difference(*scores), unit=Unit.SCORE, tolerance=tolerance.score),
        )
    )


def _compare(wanted: Outputs, found: Outputs, name: str, unit: Unit, tolerance: float) -> Parity:
    """Compare the values of an output."""
    return parity_of(_difference(*_pair(wanted, found, name)), unit=unit, tolerance=tolerance)


def _pair(wanted: Outputs, found: Outputs, name: str) -> tuple[FloatArray, FloatArray]:
    for role, outputs in (("reference", wanted), ("candidate", found)):
        if name not in outputs:
            raise CheckFailed(f"the {role} has no output {name!r} (it has {', '.join(outputs) or 'none'})")
    a, b = wanted[name], found[name]
    if a.shape != b.shape:
        raise CheckFailed(f"{name}: the reference has shape {a.shape}, the candidate {b.shape}")
    return a, b


def _difference(a: FloatArray, b: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):  # inf − inf gives NaN, which fails the comparison as it should
        return np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))
