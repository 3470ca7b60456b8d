"""Whether a later report is slower than an earlier one, beyond what chance explains."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..runtime.errors import InputError
from ..runtime.values import FloatArray
from .measure import Measurement
from .report import BenchReport, Row

METRICS = ("p50", "p90", "p95", "p99", "max", "mean")
RESAMPLES = 2000
_RULE = re.compile(r"^\s*(\w+)\s*>\s*\+?(\d+(?:\.\d+)?)\s*%\s*$")


@dataclass(frozen=True, slots=True)
class Rule:
    """A change that is too much: `metric` larger by more than `percent`."""

    metric: str
    percent: float

    def __str__(self) -> str:
        return f"{self.metric}>+{self.percent:g}%"


@dataclass(frozen=True, slots=True)
class Change:
    """A metric of one candidate, later over earlier: 1.1 is ten percent slower. low, high: interval of 95 %."""

    name: str
    metric: str
    old_ms: float
    new_ms: float
    value: float
    low: float
    high: float

    def breaks(self, rule: Rule) -> bool:
        """Whether it is beyond the rule, and more than chance: its whole interval lies above no change."""
        return self.metric == rule.metric and self.value > 1 + rule.percent / 100 and self.low > 1

    def __str__(self) -> str:
        return f"{self.value - 1:+.1%} ({self.low - 1:+.1%} to {self.high - 1:+.1%})"


def parse_rule(text: str) -> Rule:
    """Read a rule such as ``p95>+5%``.

    Raises:
        InputError: another form, or an unknown metric.
    """
    found = _RULE.match(text)
    if found is None or found.group(1) not in METRICS:
        raise InputError(f"wanted a rule such as p95>+5% with one of {', '.join(METRICS)}; found {text!r}")
    return Rule(found.group(1), float(found.group(2)))


def compare_reports(
    old: BenchReport, new: BenchReport, metrics: Sequence[str], *, anyway: bool = False, seed: int = 0
) -> list[Change]:
    """Changes of every candidate that both reports have, a row for each of `metrics`.

    The rounds of each report are resampled whole, for calls of one round are alike (a block bootstrap).

    Raises:
        InputError: no candidate in common; or, unless `anyway`, other hardware, threads or inputs.
    """
    earlier = {row.name: row for row in old.rows}
    pairs = [(earlier[row.name], row) for row in new.rows if row.name in earlier]
    if not pairs:
        raise InputError("the two reports have no candidate in common")
    if not anyway and (reasons := differences(old, new, pairs)):
        raise InputError(f"these reports cannot be compared: {'; '.join(reasons)} (--anyway compares them still)")
    rng = np.random.default_rng(seed)
    return [_change(a.measurement, b.measurement, metric, rng) for a, b in pairs for metric in metrics]


def differences(old: BenchReport, new: BenchReport, pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    """What makes two reports speak of different things, in plain words."""
    found = []
    for name in ("cpu", "machine", "logical_cores"):
        a, b = getattr(old.environment, name), getattr(new.environment, name)
        if a != b:
            found.append(f"{name.replace('_', ' ')} was {a}, is {b}")
    for a, b in pairs:
        x, y = a.measurement.description, b.measurement.description
        if x.threads != y.threads:
            found.append(f"{x.name} had {x.threads} thread(s), has {y.threads}")
        if x.inputs_digest != y.inputs_digest:
            found.append(f"{x.name} had other inputs")
    return found


def _change(old: Measurement, new: Measurement, metric: str, rng: np.random.Generator) -> Change:
    a, b = _statistic(old, metric, rng), _statistic(new, metric, rng)
    low, high = np.quantile(b[1:] / a[1:], [0.025, 0.975])
    value = float(b[0] / a[0])
    return Change(
        name=new.description.name,
        metric=metric,
        old_ms=float(a[0]),
        new_ms=float(b[0]),
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
    )


def _statistic(measurement: Measurement, metric: str, rng: np.random.Generator) -> FloatArray:
    """The metric in ms (1 + RESAMPLES,): of all calls first, then of rounds drawn with replacement."""
    rounds = np.array(measurement.latencies_ns, dtype=np.float64) / 1e6
    picks = rng.integers(0, len(rounds), (RESAMPLES, len(rounds)))
    samples = np.concatenate([rounds[None], rounds[picks]]).reshape(RESAMPLES + 1, -1)
    if metric == "mean":
        means: FloatArray = samples.mean(axis=1)
        return means
    percentiles: FloatArray = np.percentile(samples, 100.0 if metric == "max" else float(metric[1:]), axis=1)
    return percentiles
