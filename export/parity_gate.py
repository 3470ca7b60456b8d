"""The gate that every model file passes before it is kept: it says what its reference says, in task units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..bench.parity import ParityGate
from ..bench.tolerances import compare_outputs
from ..runtime.errors import CheckFailed
from ..runtime.onnx_runner import OnnxRunner
from ..runtime.runner import Provider, Runner
from ..runtime.values import Image
from .samples import sample_batch

GATE_BATCHES = (1, 2, 5)


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
    return compare_outputs(reference.spec, candidate.precision, reference(batch), candidate(batch))


def describe(parities: Sequence[ParityGate]) -> str:
    """One line for people."""
    return "; ".join(f"batch {b}: {p}" for b, p in zip(GATE_BATCHES, parities, strict=True))
