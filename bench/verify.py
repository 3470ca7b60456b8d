"""Verification of a bundle: whether its models reproduce their reference outputs on this machine."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.backends.open_runner import open_model
from ..runtime.errors import CheckFailed, MienError, ModelError, ProviderError
from ..runtime.faces.detector import OwnDetector
from ..runtime.models.bundle import BENCH, Bundle, BundledModel, read_bundle
from ..runtime.models.runner import Provider, Runner
from ..runtime.models.spec import Precision
from ..runtime.pipeline.pipeline import Pipeline
from ..runtime.values import FloatArray, Image, Progress
from .accuracy.metrics import normalized_mean_error
from .parity.compare_outputs import compare_outputs
from .parity.parity import ParityGate, Unit, parity_of
from .timing.environment import describe_environment
from .timing.interleave import LocalCandidate, measure_interleaved
from .timing.measurement import Description, Measurement
from .verdict import PIPELINE, Check, Verdict

PROVIDERS = tuple(provider for provider in Provider if provider is not Provider.AUTO)
"""Providers to check by default: all that mien supports."""
PIPELINE_NME = {Precision.FP32: 0.5, Precision.FP16: 1.0, Precision.INT8: 2.0}
"""Allowed NME of a face in the golden picture, in percent. It covers the crops, which differ slightly between versions
of OpenCV (by 0.05 % NME between 4.8 and 5.0)."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """Options of a verification.

    Attributes:
        required: Check these providers only, and fail if one is unavailable; empty: check all available ones.
        threads: Threads per operator; 0: all cores.
        rounds: Rounds of the latency measurement; 0: do not measure.
        calls_per_round: Calls of each model per round.
    """

    required: tuple[Provider, ...] = ()
    threads: int = 1
    rounds: int = 10
    calls_per_round: int = 10


def verify_file(
    path: Path,
    options: VerifyOptions | None = None,
    *,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Check a bundle's checksums, then `verify` it.

    Args:
        path: The bundle.
        options: Options of the verification.
        sha256: Expected digest of the file.
        progress: Called after each round of the measurement.

    Raises:
        InputError: The file does not exist.
    """
    try:
        bundle = read_bundle(path)
    except ModelError as error:
        return Verdict(refused=str(error))
    if sha256 is not None and bundle.sha256 != sha256.lower():
        return Verdict(
            bundle.sha256, bundle.made_by, refused=f"{path}: expected sha256 {sha256}, found {bundle.sha256}"
        )
    return verify(bundle, options, progress=progress)


@dataclass(frozen=True, slots=True)
class _Trial:
    """A check, with whatever it takes to measure its latency.

    Attributes:
        check: The check.
        absent: Whether the provider is unavailable and was not required.
        runner: Open runner of a model file; None for the pipeline.
        call: Function to time; takes one of the inputs.
        inputs: Pictures (1, h, w, 3) uint8 BGR.
    """

    check: Check
    absent: bool = False
    runner: Runner | None = None
    call: Callable[[Image], object] | None = None
    inputs: Sequence[Image] = ()


def verify(bundle: Bundle, options: VerifyOptions | None = None, *, progress: Progress | None = None) -> Verdict:
    """Run the golden samples on each provider, compare the outputs in task units, and time the models that pass.

    Args:
        bundle: The bundle.
        options: Options of the verification.
        progress: Called after each round of the measurement.
    """
    options = options if options is not None else VerifyOptions()
    environment = describe_environment()  # first, so that the load average excludes our own work
    providers = options.required or PROVIDERS
    precisions = sorted({model.precision for model in bundle.models}, key=list(Precision).index)
    with ExitStack() as stack:
        trials = [
            _try_model(bundle, model, provider, options, stack) for model in bundle.models for provider in providers
        ]
        trials += [t for p in precisions for v in providers if (t := _try_pipeline(bundle, trials, p, v)) is not None]
        measured = _measure(trials, options, progress)
    # A provider that runs some of the models is available; if it rejects others, that is a failure.
    available = {trial.check.provider for trial in trials if not trial.absent}
    return Verdict(
        bundle.sha256,
        bundle.made_by,
        tuple(
            replace(t.check, measurement=measured.get(t.check.name)) for t in trials if t.check.provider in available
        ),
        {t.check.provider: t.check.failure for t in trials if t.check.provider not in available},
        environment=environment,
        bundled=_bundled_measurements(bundle),
    )


def _try_model(
    bundle: Bundle, model: BundledModel, provider: Provider, options: VerifyOptions, stack: ExitStack
) -> _Trial:
    check = Check(model.name, model.precision, provider)
    try:
        runner = stack.enter_context(_open(bundle, model, provider, options.threads))
        images, wanted = bundle.golden(model.name)
        parity = compare_outputs(model.spec, model.precision, wanted, runner(images))
    except MienError as error:
        absent = isinstance(error, ProviderError) and provider not in options.required
        return _Trial(replace(check, failure=str(error)), absent)
    return _Trial(replace(check, parity=parity), False, runner, runner, [image[None] for image in images])


def _try_pipeline(bundle: Bundle, trials: Sequence[_Trial], precision: Precision, provider: Provider) -> _Trial | None:
    """Check the whole pipeline on the trials' runners; return None if there is no detector or landmark model."""
    runners = {
        t.check.model: t.runner
        for t in trials
        if (t.check.precision, t.check.provider) == (precision, provider) and t.runner is not None
    }
    if not {"detector", "landmarks"} <= runners.keys():
        return None
    pipeline = Pipeline(OwnDetector(runners["detector"]), runners["landmarks"], runners.get("age_gender"))
    check = Check(PIPELINE, precision, provider)
    try:
        picture, wanted = bundle.picture()
        errors = face_errors(pipeline(picture).landmarks, wanted)
    except MienError as error:
        return _Trial(replace(check, failure=str(error)))
    parity = ParityGate((parity_of(errors, unit=Unit.NME, tolerance=PIPELINE_NME[precision]),))
    return _Trial(replace(check, parity=parity), call=lambda batch: pipeline(batch[0]), inputs=[picture[None]])


def face_errors(found: FloatArray, wanted: FloatArray) -> FloatArray:
    """Compute the NME of each expected face against the nearest detected one.

    Args:
        found: Detected landmarks (m, 68, 3) in px.
        wanted: Expected landmarks (n, 68, 3) in px.

    Returns:
        Errors (n,) in percent of the outer eye distance.

    Raises:
        CheckFailed: No face was detected.
    """
    if not len(found):
        raise CheckFailed(f"no face was found in the golden picture; expected {len(wanted)}")
    between = found[None, :, :, :2].mean(axis=2) - wanted[:, None, :, :2].mean(axis=2)
    return normalized_mean_error(found[np.linalg.norm(between, axis=-1).argmin(axis=1)], wanted)


def _measure(trials: Sequence[_Trial], options: VerifyOptions, progress: Progress | None) -> dict[str, Measurement]:
    """Time the checks that passed; return measurements by check name."""
    candidates = [
        LocalCandidate(
            Description(
                name=t.check.name,
                model=t.check.model,
                precision=t.check.precision,
                provider=t.check.provider.value,
                batch=1,
                threads=options.threads,
            ),
            t.inputs,
            t.call,
        )
        for t in trials
        if t.check and t.call is not None
    ]
    if not candidates or not options.rounds:
        return {}
    measurements = measure_interleaved(
        candidates, rounds=options.rounds, calls_per_round=options.calls_per_round, progress=progress
    )
    return {m.description.name: m for m in measurements}


@contextmanager
def _open(bundle: Bundle, model: BundledModel, provider: Provider, threads: int) -> Iterator[Runner]:
    """Open a model file, and check it against the bundle's description."""
    with open_model(bundle.model_file(model), provider=provider, threads=threads) as runner:
        if runner.spec != model.spec or runner.precision is not model.precision:
            raise ModelError(f"the spec inside {model.file} differs from {model.spec_file}")
        yield runner


def _bundled_measurements(bundle: Bundle) -> tuple[Mapping[str, Any], ...]:
    """Read the measurements from `BENCH`; malformed ones are ignored, since they are for information only."""
    try:
        rows: Sequence[Any] = json.loads(bundle.files.get(BENCH, b"{}")).get("measurements", [])
        found = [(str(row["name"]), float(row["p50_ms"])) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return ()
    return tuple({"name": name, "p50_ms": p50_ms} for name, p50_ms in found if math.isfinite(p50_ms))
