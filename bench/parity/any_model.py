"""Whether two files say the same where nobody knows what their outputs mean: by the outputs' own scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.bench.parity.parity import Parity, Unit, parity_of
from mien.bench.parity.tolerances import FOREIGN_SCALE, FOREIGN_UNEQUAL
from mien.runtime.errors import CheckFailed, ModelError

SMALLEST_SCALE = float(np.finfo(np.float16).smallest_normal)
"""Halves below it lose digits: an output that never reaches it is judged as if it did, and is no proof."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ForeignParity:
    """Parity of each output by its name; true when all hold, and one of them at least is a proof.

    silent: names of the outputs that are none, for they are empty or stay below `SMALLEST_SCALE`.
    """

    outputs: Mapping[str, Parity]
    silent: frozenset[str]

    @property
    def failed(self) -> dict[str, Parity]:
        """Those beyond their tolerance."""
        return {name: parity for name, parity in self.outputs.items() if parity.count and not parity}

    def __bool__(self) -> bool:
        return not self.failed and not self.silent.issuperset(self.outputs)

    def __str__(self) -> str:
        told = self.failed or (self.outputs if self else {})
        said = []
        for unit in Unit:
            group = {name: parity for name, parity in told.items() if parity.unit is unit and parity.count}
            if group:
                figures = ", ".join(f"{name} {parity.max:.2g}" for name, parity in group.items())
                said.append(f"{figures} {unit.value} (tolerance {next(iter(group.values())).tolerance:g})")
        if self.silent and not self.failed:
            said.append(f"no proof, as empty or below {SMALLEST_SCALE:.1g}: {', '.join(sorted(self.silent))}")
        return "; ".join(said)


def compare_values(
    names: Sequence[str], wanted: Sequence[Sequence[Any]], found: Sequence[Sequence[Any]]
) -> ForeignParity:
    """Compare what two sessions answered to the same calls. wanted, found: an output of each name, a call.

    Floats are counted in percent of the largest finite value that the reference gives in any call; NaN and infinity
    must stand where the reference has them. Of anything else, such as class ids, counts the share of unequal values
    in a call.

    Raises:
        CheckFailed: an output has another shape than the reference's.
        ModelError: an output is no tensor.
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
        raise ModelError(f"its output {name} is a {type(wanted).__name__}, of which mien compares none, only tensors")
    if wanted.shape != found.shape:
        raise CheckFailed(
            f"{name} has shape {found.shape}, and {wanted.shape} in float32; where values decide how many rows there "
            "are, as behind a suppression, cut the file before that"
        )
    return wanted, found


def _deviation(wanted: Array, found: Array, *, scale: float) -> Array:
    """In percent of `scale`; infinite where only one of the two is finite, or they are infinite otherwise."""
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        percent = 100 * np.abs(a - b) / scale
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isnan(percent), np.inf, percent))
