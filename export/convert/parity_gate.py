"""The gate that every model file passes before it is kept: it says what its reference says, in task units."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from mien.bench.data.sample_inputs import Subset, sample_batch
from mien.bench.parity.parity import ParityGate
from mien.bench.parity.tolerances import compare_outputs
from mien.export.convert.float16 import stored_in_half
from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.backends.ort.onnx_session import NAMES
from mien.runtime.errors import CheckFailed, OutputError
from mien.runtime.files import check_writable, temp_path
from mien.runtime.models.input_shapes import INPUT
from mien.runtime.models.runner import Provider, Runner
from mien.runtime.models.spec import Precision

GATE_BATCHES = (1, 2, 5)


def check_target(source: Path, target: Path) -> None:
    """Raise OutputError unless `target` is another file than `source`, ends in .onnx and can be written."""
    if target.suffix.lower() != ".onnx" or target.resolve() == source.resolve():
        raise OutputError(f"wanted another file, NAME.onnx, to write to; found {target}")
    check_writable(target)


@contextlib.contextmanager
def kept_if_passed(target: Path) -> Iterator[Path]:
    """Where to write a model file for its gate: it becomes `target`, or vanishes if anything is raised."""
    partial = temp_path(target)
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def gate(
    path: Path,
    reference: Runner,
    *,
    data: Path | None,
    subset: Subset = Subset.ALL,
    batches: Sequence[int] = GATE_BATCHES,
) -> tuple[ParityGate, ...]:
    """Compare a model file with its reference at several batch sizes; a half one also as a GPU would compute it.

    Raises:
        CheckFailed: one of them is beyond its tolerance.
    """
    parities = []
    with OnnxRunner(path, provider=Provider.CPU, threads=1) as candidate:
        storing = session_storing_halves(path) if candidate.precision is Precision.FP16 else None
        for size in batches:
            batch = sample_batch(reference.spec, size, data=data, seed=size, subset=subset)
            wanted, found = reference(batch), [candidate(batch)]
            if storing is not None:
                found.append(dict(zip(reference.spec.outputs, storing.run(None, {INPUT: batch}), strict=True)))
            judged = [compare_outputs(reference.spec, candidate.precision, wanted, outputs) for outputs in found]
            for parity in judged:
                if not parity:
                    raise CheckFailed(f"parity at batch {size} does not hold: {parity}; the file was not written")
            parities.append(judged[-1])
    return tuple(parities)


def session_storing_halves(path: Path) -> Any:
    """A session on the CPU that rounds every half of a float16 file, as a GPU does; see `stored_in_half`."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = stored_in_half(onnx.load(path))
    return ort.InferenceSession(model.SerializeToString(), options, providers=[NAMES[Provider.CPU]])


def describe(parities: Sequence[ParityGate]) -> str:
    """One line for people."""
    return "; ".join(f"batch {b}: {p}" for b, p in zip(GATE_BATCHES, parities, strict=True))
