"""`mien verify`: whether a bundle computes here, on every provider there is, what it computed where it was made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mien.bench.accuracy.metrics import normalized_mean_error
from mien.bench.parity.parity import ParityGate, Unit, parity_of
from mien.bench.parity.tolerances import compare_outputs
from mien.bench.report.serde import encode
from mien.bench.timing.environment import Environment, describe_environment
from mien.bench.timing.interleave import LocalCandidate, measure_interleaved
from mien.bench.timing.measurement import Measurement
from mien.runtime.backends.open_runner import open_model
from mien.runtime.errors import CheckFailed, MienError, ModelError, ProviderError
from mien.runtime.faces.detector import OwnDetector
from mien.runtime.faces.pipeline import Pipeline
from mien.runtime.models.bundle import BENCH, Bundle, BundledModel, read_bundle
from mien.runtime.models.runner import Provider, Runner
from mien.runtime.models.spec import Precision
from mien.runtime.values import FloatArray, Image, Progress

PROVIDERS = tuple(provider for provider in Provider if provider is not Provider.AUTO)
"""What a bundle is tried on: every provider that mien knows."""
PIPELINE = "pipeline"
PIPELINE_NME = {Precision.FP32: 0.5, Precision.FP16: 1.0, Precision.INT8: 2.0}
"""How far a face of the golden picture may move, in percent of its outer eye distance: OpenCV's versions cut crops a
little differently (4.8 and 5.0: 0.05 %)."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """How to verify. required: only these providers, each of which must run; none: all that run here.

    rounds: of the measurement, 0 for none. calls_per_round: of each model in a round.
    """

    required: tuple[Provider, ...] = ()
    threads: int = 1
    rounds: int = 10
    calls_per_round: int = 10


@dataclass(frozen=True, slots=True)
class Check:
    """One model file, or the pipeline of all, on one provider; true when its golden outputs came out again.

    failure: why there is no parity, empty where there is one. measurement: latency of one image, where it was taken.
    """

    model: str
    precision: Precision
    provider: Provider
    parity: ParityGate | None = None
    failure: str = ""
    measurement: Measurement | None = None

    def __bool__(self) -> bool:
        return bool(self.parity)

    @property
    def name(self) -> str:
        """Unique within a verdict."""
        return f"{self.model}/{self.precision.value}/{self.provider.value}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that was checked; true when the file is whole, something ran, and every check holds.

    refused: why the file was not opened at all. absent: providers that are not here, and why.
    bundled: the measurements that came with the bundle, rows of `measurement_row`.
    """

    sha256: str = ""
    made_by: str = ""
    checks: tuple[Check, ...] = ()
    absent: Mapping[Provider, str] = field(default_factory=dict)
    refused: str = ""
    environment: Environment | None = None
    bundled: tuple[Mapping[str, Any], ...] = ()

    def __bool__(self) -> bool:
        return not self.refused and bool(self.checks) and all(self.checks)

    def __str__(self) -> str:
        if self.refused:
            return f"refused: {self.refused}"
        held = sum(bool(check) for check in self.checks)
        where = ", ".join(dict.fromkeys(check.provider.value for check in self.checks)) or "no provider"
        return f"{'holds' if self else 'does not hold'}: {held} of {len(self.checks)} checks on {where}"

    def bundled_p50_ms(self, check: Check) -> float | None:
        """Median latency of the same file on the same provider where the bundle was made."""
        rows = (row for row in self.bundled if row.get("name") == check.name)
        return next((float(row["p50_ms"]) for row in rows), None)

    def to_row(self) -> dict[str, Any]:
        """As the JSON of ``mien verify --json``."""
        return {
            "holds": bool(self),
            "verdict": str(self),
            "sha256": self.sha256,
            "made_by": self.made_by,
            "checks": [
                {
                    "model": check.model,
                    "precision": check.precision.value,
                    "provider": check.provider.value,
                    "holds": bool(check),
                    "parity": encode(check.parity.parts) if check.parity is not None else [],
                    "failure": check.failure,
                    "latency": measurement_row(check.measurement) if check.measurement is not None else None,
                    "bundled_p50_ms": self.bundled_p50_ms(check),
                }
                for check in self.checks
            ],
            "absent": {provider.value: reason for provider, reason in self.absent.items()},
            "environment": asdict(self.environment) if self.environment is not None else None,
        }


def verify_file(
    path: Path,
    options: VerifyOptions | None = None,
    *,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Check a bundle's sums, and then `verify` it. sha256: what the digest of the whole file must be.

    Raises:
        InputError: no such file.
    """
    try:
        bundle = read_bundle(path)
    except ModelError as error:
        return Verdict(refused=str(error))
    if sha256 is not None and bundle.sha256 != sha256.lower():
        return Verdict(bundle.sha256, bundle.made_by, refused=f"{path}: its sha256 is {bundle.sha256}, not {sha256}")
    return verify(bundle, options, progress=progress)


@dataclass(frozen=True, slots=True)
class _Trial:
    """A check and what may be measured. absent: the provider refused, and nobody had demanded it.

    runner: of a model file, still open. call: takes one of the inputs (1, h, w, 3).
    """

    check: Check
    absent: bool = False
    runner: Runner | None = None
    call: Callable[[Image], object] | None = None
    inputs: Sequence[Image] = ()


def verify(bundle: Bundle, options: VerifyOptions | None = None, *, progress: Progress | None = None) -> Verdict:
    """Run the golden samples on every provider, in task units, and measure what holds. Needs no torch."""
    options = options if options is not None else VerifyOptions()
    environment = describe_environment()  # before the work, whose own load it would tell else
    providers = options.required or PROVIDERS
    precisions = sorted({model.precision for model in bundle.models}, key=list(Precision).index)
    with ExitStack() as stack:
        trials = [
            _try_model(bundle, model, provider, options, stack) for model in bundle.models for provider in providers
        ]
        trials += [t for p in precisions for v in providers if (t := _try_pipeline(bundle, trials, p, v)) is not None]
        measured = _measured(trials, options, progress)
    # A provider that takes some of the models is here, and refusing the others is a failure.
    here = {trial.check.provider for trial in trials if not trial.absent}
    return Verdict(
        bundle.sha256,
        bundle.made_by,
        tuple(replace(t.check, measurement=measured.get(t.check.name)) for t in trials if t.check.provider in here),
        {t.check.provider: t.check.failure for t in trials if t.check.provider not in here},
        environment=environment,
        bundled=_bundled(bundle),
    )


def _try_model(
    bundle: Bundle, model: BundledModel, provider: Provider, options: VerifyOptions, stack: ExitStack
) -> _Trial:
    check = Check(model.name, model.precision, provider)
    try:
        runner = stack.enter_context(_opened(bundle, model, provider, options.threads))
        images, wanted = bundle.golden(model.name)
        parity = compare_outputs(model.spec, model.precision, wanted, runner(images))
    except MienError as error:
        absent = isinstance(error, ProviderError) and provider not in options.required
        return _Trial(replace(check, failure=str(error)), absent)
    return _Trial(replace(check, parity=parity), False, runner, runner, [image[None] for image in images])


def _try_pipeline(bundle: Bundle, trials: Sequence[_Trial], precision: Precision, provider: Provider) -> _Trial | None:
    """The whole way from a picture to its faces, through the runners of the trials; None where one did not open."""
    wanted_of = (precision, provider)
    runners = {
        t.check.model: t.runner
        for t in trials
        if (t.check.precision, t.check.provider) == wanted_of and t.runner is not None
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
    """NME (n,) in percent of each face of `wanted` (n, 68, 3) against the face of `found` (m, 68, 3) next to it.

    Raises:
        CheckFailed: there is none.
    """
    if not len(found):
        raise CheckFailed(f"no face was found in the golden picture, wanted {len(wanted)}")
    between = found[None, :, :, :2].mean(axis=2) - wanted[:, None, :, :2].mean(axis=2)
    return normalized_mean_error(found[np.linalg.norm(between, axis=-1).argmin(axis=1)], wanted)


def _measured(trials: Sequence[_Trial], options: VerifyOptions, progress: Progress | None) -> dict[str, Measurement]:
    """Latencies of what holds, by the check's name."""
    candidates = [
        LocalCandidate(
            name=t.check.name,
            model=t.check.model,
            precision=t.check.precision,
            provider=t.check.provider.value,
            batch=1,
            threads=options.threads,
            inputs=t.inputs,
            call=t.call,
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
def _opened(bundle: Bundle, model: BundledModel, provider: Provider, threads: int) -> Iterator[Runner]:
    """Open a model file on a provider, which must be what the bundle says it is."""
    with open_model(bundle.model_file(model), provider=provider, threads=threads) as runner:
        if runner.spec != model.spec or runner.precision is not model.precision:
            raise ModelError(f"{model.file} says of itself something else than {model.spec_file}")
        yield runner


def measurement_row(measurement: Measurement) -> dict[str, Any]:
    """A measurement as JSON: what was measured, percentiles in ms, and every raw latency in ns."""
    about = asdict(measurement.description)
    precision = measurement.description.precision
    return {
        **about,
        "precision": None if precision is None else precision.value,
        **{f"p{p}_ms": round(measurement.percentile_ms(p), 4) for p in (50, 90, 99)},
        "n": len(measurement.calls_ns),
        "processes": [asdict(run) for run in measurement.processes],
    }


def _bundled(bundle: Bundle) -> tuple[Mapping[str, Any], ...]:
    """The measurements of `BENCH`, none where it has none that can be read: they decide nothing."""
    try:
        rows: Sequence[Any] = json.loads(bundle.files.get(BENCH, b"{}")).get("measurements", [])
        found = [(str(row["name"]), float(row["p50_ms"])) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return ()
    return tuple({"name": name, "p50_ms": p50_ms} for name, p50_ms in found if math.isfinite(p50_ms))
