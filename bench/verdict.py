"""`Verdict`: the result of verifying a bundle, check by check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..runtime.models.runner import Provider
from ..runtime.models.spec import Precision
from .parity.parity import ParityGate
from .report.serde import encode
from .timing.environment import Environment
from .timing.measurement import Measurement

PIPELINE = "pipeline"
"""Name of the check of the whole pipeline."""


@dataclass(frozen=True, slots=True)
class Check:
    """Check of a model file, or of the whole pipeline, on one provider; true if it reproduced the golden outputs.

    Attributes:
        model: Name of the model, or `PIPELINE`.
        precision: Precision of the model file.
        provider: The provider.
        parity: Parity with the golden outputs; None if the model did not run.
        failure: Why the model did not run; empty if it did.
        measurement: Latency for one image, if measured.
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
    """Result of a verification; true if the file is intact and at least one check ran and all passed.

    Attributes:
        sha256: Digest of the bundle.
        made_by: Version of mien that made the bundle.
        checks: One check per model file and provider, and per pipeline and provider.
        absent: Unavailable providers, each with the reason.
        refused: Why the file was rejected unopened; empty if it was opened.
        environment: The machine that ran the checks.
        bundled: Measurements stored in the bundle; see `measurement_row`.
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
        passed = sum(bool(check) for check in self.checks)
        where = ", ".join(dict.fromkeys(check.provider.value for check in self.checks)) or "no provider"
        return f"{'verified' if self else 'failed'}: {passed} of {len(self.checks)} checks passed on {where}"

    def bundled_p50_ms(self, check: Check) -> float | None:
        """Return the median latency of the same check on the machine that made the bundle; None if unknown."""
        rows = (row for row in self.bundled if row.get("name") == check.name)
        return next((float(row["p50_ms"]) for row in rows), None)

    def to_row(self) -> dict[str, Any]:
        """Convert to the JSON of ``mien verify --json``."""
        return {
            "passed": bool(self),
            "verdict": str(self),
            "sha256": self.sha256,
            "made_by": self.made_by,
            "checks": [
                {
                    "model": check.model,
                    "precision": check.precision.value,
                    "provider": check.provider.value,
                    "passed": bool(check),
                    "parity": [] if check.parity is None else encode(check.parity.parts),
                    "failure": check.failure,
                    "latency": measurement_row(check.measurement) if check.measurement is not None else None,
                    "bundled_p50_ms": self.bundled_p50_ms(check),
                }
                for check in self.checks
            ],
            "absent": {provider.value: reason for provider, reason in self.absent.items()},
            "environment": encode(self.environment),
        }


def measurement_row(measurement: Measurement) -> dict[str, Any]:
    """Convert a measurement to JSON: its description, percentiles in ms, and all raw latencies in ns."""
    return {
        **encode(measurement.description),
        **{f"p{p}_ms": round(measurement.percentile_ms(p), 4) for p in (50, 90, 99)},
        "n": len(measurement.calls_ns),
        "processes": encode(measurement.processes),
    }
