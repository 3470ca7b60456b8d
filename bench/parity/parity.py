"""Parity: comparison of the outputs of two runners, in task units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from ...runtime.errors import CheckFailed
from ...runtime.values import FloatArray, percentile
from ..accuracy.metrics import normalized_mean_error

Outputs = Mapping[str, FloatArray]

LANDMARK_TOLERANCE_PX = 0.25
BOX_TOLERANCE_PX = 1.0
SCORE_TOLERANCE = 0.02
YEARS_TOLERANCE = 0.25
MIN_SCORE = 0.05
"""Boxes with a lower score in the reference are never reported, so their position does not matter."""


class Unit(str, Enum):
    """Unit of a deviation."""

    PX = "px"
    SCORE = "score"
    NME = "NME %"
    YEARS = "years"
    SIDE = "% of the box's longer side"
    SCALE = "% of its largest value"
    UNEQUAL = "% of a call's values unequal"


@dataclass(frozen=True, slots=True)
class Parity:
    """Deviation of a candidate's outputs from the reference's; true if all are within the tolerance.

    NaN is never within the tolerance, nor is an empty comparison.

    Attributes:
        unit: Unit of the following values.
        tolerance: Maximum deviation allowed.
        max: Maximum deviation.
        mean: Mean deviation.
        p99: 99th percentile of the deviations.
        count: Number of deviations.
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
    """All comparisons between two models; true if there is at least one and all are true."""

    parts: tuple[Parity, ...]

    def __bool__(self) -> bool:
        return bool(self.parts) and all(self.parts)

    def __str__(self) -> str:
        return ", ".join(str(part) for part in self.parts) or "nothing compared"


def parity_of(deviations: FloatArray, *, unit: Unit, tolerance: float) -> Parity:
    """Summarize deviations of any shape, ≥ 0 and in `unit`."""
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
    """Compare landmarks by point distance in px, and presence if the model has it.

    Args:
        reference: Outputs ``landmarks`` (b, 68, 3) in fractions of the crop and, optionally, ``presence`` (b,).
        candidate: Outputs of the same shapes.
        size_px: Side of the crop.
        tolerance_px: Maximum distance of a point.
        tolerance_score: Maximum difference of presence.

    Raises:
        CheckFailed: An output is missing or has another shape.
    """
    distance = np.linalg.norm(_difference(*_pair(reference, candidate, "landmarks")), axis=-1) * size_px
    points = parity_of(distance, unit=Unit.PX, tolerance=tolerance_px)
    return ParityGate((points, *_presence(reference, candidate, tolerance_score)))


def compare_faces(
    reference: Outputs, candidate: Outputs, *, tolerance_nme: float, tolerance_score: float = SCORE_TOLERANCE
) -> ParityGate:
    """Compare landmarks by the NME of each face, and presence if the model has it.

    Args:
        reference: Outputs ``landmarks`` (b, 68, 3) and, optionally, ``presence`` (b,).
        candidate: Outputs of the same shapes.
        tolerance_nme: Maximum NME of a face, percent.
        tolerance_score: Maximum difference of presence.

    Raises:
        CheckFailed: An output is missing or has another shape.
    """
    wanted, found = _pair(reference, candidate, "landmarks")
    errors = normalized_mean_error(found.astype(np.float64), wanted.astype(np.float64))
    points = parity_of(errors, unit=Unit.NME, tolerance=tolerance_nme)
    return ParityGate((points, *_presence(reference, candidate, tolerance_score)))


def _presence(reference: Outputs, candidate: Outputs, tolerance: float) -> tuple[Parity, ...]:
    """Compare presence (b,); returns nothing for a model without it."""
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
    """Compare ages and probabilities of female.

    Args:
        reference: Outputs ``age`` (b,) in years, ``female`` (b,) and, where the model has it, ``age_std`` (b,).
        candidate: Outputs of the same shapes.
        tolerance_years: Maximum difference of an age and of its standard deviation.
        tolerance_score: Maximum difference of a probability.

    Raises:
        CheckFailed: An output is missing or has another shape.
    """

    def parity(output: str, unit: Unit, tolerance: float) -> Parity:
        return parity_of(_difference(*_pair(reference, candidate, output)), unit=unit, tolerance=tolerance)

    years = [parity(name, Unit.YEARS, tolerance_years) for name in ("age", "age_std") if name in reference]
    return ParityGate((*years, parity("female", Unit.SCORE, tolerance_score)))


def compare_classes(
    reference: Outputs, candidate: Outputs, *, output: str = "probabilities", tolerance_score: float = SCORE_TOLERANCE
) -> ParityGate:
    """Compare the probabilities or logits of a classifier.

    Args:
        reference: An output (b, classes).
        candidate: An output of the same shape.
        output: Name of the output.
        tolerance_score: Maximum difference of a value.

    Raises:
        CheckFailed: The output is missing or has another shape.
    """
    difference = _difference(*_pair(reference, candidate, output))
    return ParityGate((parity_of(difference, unit=Unit.SCORE, tolerance=tolerance_score),))


def compare_detections(
    reference: Outputs,
    candidate: Outputs,
    *,
    tolerance: float = BOX_TOLERANCE_PX,
    unit: Unit = Unit.PX,
    tolerance_score: float = SCORE_TOLERANCE,
) -> ParityGate:
    """Compare the raw rows of a detector: boxes by the side that deviates most, and scores.

    Boxes count where the reference's score is above `MIN_SCORE`, or where either box is not finite.

    Args:
        reference: Outputs ``boxes`` (b, n, 4) in px and ``scores`` (b, n).
        candidate: Outputs of the same shapes.
        tolerance: Maximum shift of a side of a box, in `unit`.
        unit: Pixels, or percent of the longer side of the reference's box.
        tolerance_score: Maximum difference of a score.

    Raises:
        CheckFailed: An output is missing or has another shape.
    """
    boxes, scores = _pair(reference, candidate, "boxes"), _pair(reference, candidate, "scores")
    if boxes[0].shape[:-1] != scores[0].shape:
        raise CheckFailed(f"expected one score per box, found boxes {boxes[0].shape} and scores {scores[0].shape}")
    worst = _difference(*boxes).max(axis=-1)
    if unit is Unit.SIDE:
        sides = (boxes[0][..., 2:] - boxes[0][..., :2]).max(axis=-1)
        worst = 100 * worst / np.maximum(sides, 1.0)
    counted = (scores[0] > MIN_SCORE) | ~np.isfinite(worst)
    return ParityGate(
        (
            parity_of(worst[counted], unit=unit, tolerance=tolerance),
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
    with np.errstate(invalid="ignore"):  # inf − inf gives NaN, which fails the comparison as it should
        return np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))
