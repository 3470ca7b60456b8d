"""Parity of foreign models: as the units of outputs are unknown, deviations are relative to each output's scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.errors import CheckFailed, ModelError
from .parity import Parity, Unit, parity_of
from .tolerances import FOREIGN_SCALE, FOREIGN_UNEQUAL

SMALLEST_SCALE = float(np.finfo(np.float16).smallest_normal)
"""Smallest scale at which float16 keeps its precision. Outputs that never reach it prove nothing."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ForeignParity:
    """Parity of each output; true if all are within tolerance and at least one proves something.

    Attributes:
        outputs: Parity of each output by name.
        silent: Names of outputs that prove nothing, because they are empty or below `SMALLEST_SCALE`.
    """

    outputs: Mapping[str, Parity]
    silent: frozenset[str]

    @property
    def failed(self) -> dict[str, Parity]:
        """Outputs that exceed their tolerance."""
        return {name: parity for name, parity in self.outputs.items() if parity.count and not parity}

    def __bool__(self) -> bool:
        return not self.failed and not self.silent.issuperset(self.outputs)

    def __str__(self) -> str:
        shown = self.failed or (self.outputs if self else {})
        parts = []
        for unit in Unit:
            group = {name: parity for name, parity in shown.items() if parity.unit is unit and parity.count}
            if group:
                figures = ", ".join(f"{name} {parity.max:.2g}" for name, parity in group.items())
                parts.append(f"{figures} {unit.value} (tolerance {next(iter(group.values())).tolerance:g})")
        if self.silent and not self.failed:
            parts.append(f"no proof, as empty or below {SMALLEST_SCALE:.1g}: {', '.join(sorted(self.silent))}")
        return "; ".join(parts)


def compare_values(
    names: Sequence[str], wanted: Sequence[Sequence[Any]], found: Sequence[Sequence[Any]]
) -> ForeignParity:
    """Compare the outputs of two sessions for the same calls.

    Deviations of floats are in percent of the reference's largest finite value over all calls; NaN and infinity must
    match. Deviations of other types, such as class ids, are the percentage of unequal values per call.

    Args:
        names: Names of the outputs.
        wanted: Reference outputs of each call, in the order of `names`.
        found: Candidate outputs of each call, likewise.

    Raises:
        CheckFailed: An output has a different shape than the reference's.
        ModelError: An output is not a tensor.
    """
    outputs, silent = {}, set()
    for i, name in enumerate(names):
        pairs = [_pair(name, a[i], b[i]) for a, b in zip(wanted, found, strict=True)]
        if np.issubdtype(pairs[0][0].dtype, np.floating):
            reached = max((float(np.abs(a[np.isfinite(a)]).max(initial=0)) for a, _ in pairs), default=0.0)
            off = np.concatenate([_deviation(a, b, scale=max(reached, SMALLEST_SCALE)).reshape(-1) for a, b in pairs])
            outputs[name] = parity_of(off, unit=Unit.SCALE, tolerance=FOREIGN_SCALE)
        else:
            shares = np.array([100 * float(np.mean(a != b)) for a, b in pairs if a.size])
            outputs[name] = parity_of(shares, unit=Unit.UNEQUAL, tolerance=FOREIGN_UNEQUAL)
            reached = np.inf
        if not outputs[name].count or reached < SMALLEST_SCALE:
            silent.add(name)
    return ForeignParity(outputs, frozenset(silent))


def _pair(name: str, wanted: Any, found: Any) -> tuple[Array, Array]:
    if not isinstance(wanted, np.ndarray):
        raise ModelError(f"its output {name} is a {type(wanted).__name__}, which cannot be compared; only tensors can")
    if wanted.shape != found.shape:
        raise CheckFailed(
            f"{name} has shape {found.shape}, but {wanted.shape} in float32; if values decide the number of rows, as "
            "after non-maximum suppression, cut the graph before that"
        )
    return wanted, found


def _deviation(wanted: Array, found: Array, *, scale: float) -> Array:
    """Return deviations in percent of `scale`; infinite where only one value is finite, or the infinities differ."""
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        percent = 100 * np.abs(a - b) / scale
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isnan(percent), np.inf, percent))
