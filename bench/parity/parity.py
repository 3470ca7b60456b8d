"""Whether two runners say the same, in the units of the task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from mien.bench.accuracy.metrics import normalized_mean_error
from mien.runtime.errors import CheckFailed
from mien.runtime.values import FloatArray, percentile

Outputs = Mapping[str, FloatArray]

LANDMARK_TOLERANCE_PX = 0.25
BOX_TOLERANCE_PX = 1.0
SCORE_TOLERANCE = 0.02
YEARS_TOLERANCE = 0.25
MIN_SCORE = 0.05
"""Boxes that the reference scores no higher are never shown to anybody, whatever their place."""


class Unit(str, Enum):
    """In what a deviation is counted."""

    PX = "px"
    SCORE = "score"
    NME = "NME %"
    YEARS = "years"
    SCALE = "% of its largest value"
    UNEQUAL = "% of a call's values unequal"


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a candidate's outputs lie from the reference's; true when all are within the tolerance.

    max, mean, p99: of `count` deviations, in `unit`. A NaN is never within the tolerance, nor is an empty comparison.
    """

    unit: Unit
    tolerance: float
    max: float
    mean: float
    p99: float
    count: int

    def __bool__(self) -> bool:
        return self.count > 0 and self.max <= self.tolerance

    def __str__(self) -> str:
        if self.count == 0:
            return f"nothing to compare in {self.unit.value}"
        return f"max {self.max:.2g} {self.unit.value} (tolerance {self.tolerance:g})"


@dataclass(frozen=True, slots=True)
class ParityGate:
    """Everything compared between two models; true when every part is, false without a part."""

    parts: tuple[Parity, ...]

    def __bool__(self) -> bool:
        return bool(self.parts) and all(self.parts)

    def __str__(self) -> str:
        return ", ".join(str(part) for part in self.parts) or "nothing compared"


def parity_of(deviations: FloatArray, *, unit: Unit, tolerance: float) -> Parity:
    """Summarise deviations (any shape, ≥ 0, in `unit`)."""
    values = np.asarray(deviations, dtype=np.float64).reshape(-1)
    if not values.size:
        return Parity(unit=unit, tolerance=tolerance, max=0.0, mean=0.0, p99=0.0, count=0)
    return Parity(
        unit=unit,
        tolerance=tolerance,
        max=float(values.max()),
        mean=float(values.mean()),
        p99=percentile(values, 99),
        count=values.size,
    )


def compare_landmarks(
    reference: Outputs,
    candidate: Outputs,
    *,
    size_px: int,
    tolerance_px: float = LANDMARK_TOLERANCE_PX,
    tolerance_score: float = SCORE_TOLERANCE,
) -> ParityGate:
    """Compare landmarks (b, 68, 3) in fractions of crops of `size_px`, by distance in px, and presence (b,) if any.

    Raises:
        CheckFailed: an output is missing or has another shape.
    """
    distance = np.linalg.norm(_difference(*_pair(reference, candidate, "landmarks")), axis=-1) * size_px
    points = parity_of(distance, unit=Unit.PX, tolerance=tolerance_px)
    return ParityGate((points, *_presence(reference, candidate, tolerance_score)))


def compare_faces(
    reference: Outputs, candidate: Outputs, *, tolerance_nme: float, tolerance_score: float = SCORE_TOLERANCE
) -> ParityGate:
    """Compare landmarks (b, 68, 3) by each face's mean distance in percent of its outer eye distance, and presence.

    Raises:
        CheckFailed: an output is missing or has another shape.
    """
    wanted, found = _pair(reference, candidate, "landmarks")
    errors = normalized_mean_error(found.astype(np.float64), wanted.astype(np.float64))
    points = parity_of(errors, unit=Unit.NME, tolerance=tolerance_nme)
    return ParityGate((points, *_presence(reference, candidate, tolerance_score)))


def _presence(reference: Outputs, candidate: Outputs, tolerance: float) -> tuple[Parity, ...]:
    """Parity of presence (b,); nothing for a model without one."""
    if "presence" not in reference:
        return ()
    difference = _difference(*_pair(reference, candidate, "presence"))
    return (parity_of(difference, unit=Unit.SCORE, tolerance=tolerance),)


def compare_age_gender(
    reference: Outputs,
    candidate: Outputs,
    *,
    tolerance_years: float = YEARS_TOLERANCE,
    tolerance_score: float = SCORE_TOLERANCE,
) -> ParityGate:
    """Compare ages (b,) in years and probabilities of female (b,).

    Raises:
        CheckFailed: an output is missing or has another shape.
    """
    age, female = _pair(reference, candidate, "age"), _pair(reference, candidate, "female")
    return ParityGate(
        (
            parity_of(_difference(*age), unit=Unit.YEARS, tolerance=tolerance_years),
            parity_of(_difference(*female), unit=Unit.SCORE, tolerance=tolerance_score),
        )
    )


def compare_classes(
    reference: Outputs, candidate: Outputs, *, output: str = "probabilities", tolerance_score: float = SCORE_TOLERANCE
) -> ParityGate:
    """Compare probabilities (b, classes), or another `output` of a classifier.

    Raises:
        CheckFailed: the output is missing or has another shape.
    """
    difference = _difference(*_pair(reference, candidate, output))
    return ParityGate((parity_of(difference, unit=Unit.SCORE, tolerance=tolerance_score),))


def compare_detections(
    reference: Outputs,
    candidate: Outputs,
    *,
    tolerance_px: float = BOX_TOLERANCE_PX,
    tolerance_score: float = SCORE_TOLERANCE,
) -> ParityGate:
    """Compare a detector's raw rows one by one: boxes (b, n, 4) by their worst side in px, scores (b, n).

    Boxes count where the reference's score is above `MIN_SCORE`, and wherever one of the two is not finite.

    Raises:
        CheckFailed: an output is missing or has another shape.
    """
    boxes, scores = _pair(reference, candidate, "boxes"), _pair(reference, candidate, "scores")
    if boxes[0].shape[:-1] != scores[0].shape:
        raise CheckFailed(f"wanted a score a box, found boxes {boxes[0].shape} and scores {scores[0].shape}")
    worst = _difference(*boxes).max(axis=-1)
    counted = (scores[0] > MIN_SCORE) | ~np.isfinite(worst)
    return ParityGate(
        (
            parity_of(worst[counted], unit=Unit.PX, tolerance=tolerance_px),
            parity_of(_difference(*scores), unit=Unit.SCORE, tolerance=tolerance_score),
        )
    )


def _pair(reference: Outputs, candidate: Outputs, name: str) -> tuple[FloatArray, FloatArray]:
    for role, outputs in (("reference", reference), ("candidate", candidate)):
        if name not in outputs:
            raise CheckFailed(f"the {role} has no output {name!r} (it has {', '.join(outputs) or 'none'})")
    wanted, found = reference[name], candidate[name]
    if wanted.shape != found.shape:
        raise CheckFailed(f"{name}: the reference has shape {wanted.shape}, the candidate {found.shape}")
    return wanted, found


def _difference(a: FloatArray, b: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):  # inf − inf is NaN, which is what is wanted of it
        return np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))
