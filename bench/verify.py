"""`mien verify`: whether a bundle computes here, on every provider there is, what it computed where it was made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..runtime.bundle import BENCH, Bundle, BundledModel, read_bundle, unpacked_models
from ..runtime.errors import MienError, ModelError, ProviderError
from ..runtime.onnx_runner import OnnxRunner
from ..runtime.runner import Precision, Provider, Runner
from ..runtime.values import Image
from .environment import Environment, describe_environment
from .measure import Candidate, Measurement, measure_interleaved
from .parity import ParityGate
from .tolerances import compare_outputs

PROVIDERS = tuple(provider for provider in Provider if provider is not Provider.AUTO)
"""What a bundle is tried on: every provider that mien knows."""


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
    """One model file on one provider; true when its golden outputs came out again.

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
        return f"{'holds' if self else 'does not hold'}: {held} of {len(self.checks)} model files on {where}"

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
                    "parity": [asdict(part) for part in check.parity.parts] if check.parity is not None else [],
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
    progress: Callable[[int, int], None] | None = None,
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


def verify(
    bundle: Bundle, options: VerifyOptions | None = None, *, progress: Callable[[int, int], None] | None = None
) -> Verdict:
    """Run the golden samples on every provider, in task units, and measure what holds. Needs no torch."""
    options = options if options is not None else VerifyOptions()
    environment = describe_environment()  # before the work, whose own load it would tell else
    checks: list[Check] = []
    unwilling: dict[Provider, list[Check]] = {}
    candidates: list[Candidate] = []
    with ExitStack() as stack:
        files = {p: stack.enter_context(unpacked_models(bundle, p)) for p in {m.precision for m in bundle.models}}
        for model in bundle.models:
            for provider in options.required or PROVIDERS:
                check = Check(model.name, model.precision, provider)
                opened = _opened(files[model.precision][model.name], model, provider, options.threads)
                try:
                    runner = stack.enter_context(opened)
                    images, wanted = bundle.golden(model.name)
                    parity = compare_outputs(model.spec, model.precision, wanted, runner(images))
                except MienError as error:
                    failed = replace(check, failure=str(error))
                    if isinstance(error, ProviderError) and provider not in options.required:
                        unwilling.setdefault(provider, []).append(failed)
                    else:
                        checks.append(failed)
                    continue
                checks.append(replace(check, parity=parity))
                if parity:
                    candidates.append(_candidate(check, runner, images, options.threads))
        measured: dict[str, Measurement] = {}
        if candidates and options.rounds:
            measurements = measure_interleaved(
                candidates, rounds=options.rounds, calls_per_round=options.calls_per_round, progress=progress
            )
            measured = {m.description.name: m for m in measurements}
    for provider in unwilling.keys() & {check.provider for check in checks}:
        checks += unwilling.pop(provider)  # it is here, but not for every model: that is a failure
    return Verdict(
        bundle.sha256,
        bundle.made_by,
        tuple(replace(check, measurement=measured.get(check.name)) for check in checks),
        {provider: refusals[0].failure for provider, refusals in unwilling.items()},
        environment=environment,
        bundled=_bundled(bundle),
    )


@contextmanager
def _opened(path: Path, model: BundledModel, provider: Provider, threads: int) -> Iterator[Runner]:
    """Open a model file on a provider: the one place where a further kind of runner joins."""
    with OnnxRunner(path, provider=provider, threads=threads) as runner:
        if runner.spec != model.spec or runner.precision is not model.precision:
            raise ModelError(f"{model.file} says of itself something else than {model.spec_file}")
        yield runner


def _candidate(check: Check, runner: Runner, images: Image, threads: int) -> Candidate:
    return Candidate(
        name=check.name,
        model=check.model,
        precision=check.precision,
        provider=runner.provider,
        batch=1,
        threads=threads,
        inputs=[image[None] for image in images],
        call=runner,
    )


def measurement_row(measurement: Measurement) -> dict[str, Any]:
    """A measurement as JSON: what was measured, percentiles in ms, and every raw latency in ns."""
    about = asdict(measurement.description)
    return {
        **about,
        "precision": measurement.description.precision.value,
        **{f"p{p}_ms": round(measurement.percentile_ms(p), 4) for p in (50, 90, 99)},
        "n": len(measurement.calls_ns),
        "warm_up_ns": measurement.warm_up_ns,
        "latencies_ns": measurement.latencies_ns,
    }


def _bundled(bundle: Bundle) -> tuple[Mapping[str, Any], ...]:
    """The measurements of `BENCH`, none where it has none that can be read: they decide nothing."""
    try:
        rows: Sequence[Any] = json.loads(bundle.files.get(BENCH, b"{}")).get("measurements", [])
        return tuple({"name": str(row["name"]), "p50_ms": float(row["p50_ms"])} for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()
