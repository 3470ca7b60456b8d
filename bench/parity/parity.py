"""Parity: deviations of a model's outputs from its reference's, and whether they are tolerable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from ...runtime.values import FloatArray, percentile


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
