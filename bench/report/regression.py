"""Compares two benchmark reports and finds significant changes in latency or accuracy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.errors import InputError
from ...runtime.models.runner import Provider
from ...runtime.values import FloatArray, row_percentiles
from ...runtime.wording import counted
from ..accuracy.accuracy import Metric
from ..timing.measurement import Description, Measurement
from ..timing.speedup import MIN_ROUNDS, log_ratios, replicates, row_medians
from .report import BenchReport, FailedCandidate, Row

TIMES = ("p50", "p90", "p95", "p99", "max", "mean")
RATIO = "ratio"
"""Ratio to the baseline, which does not change if the whole machine becomes slower."""
ACCURACIES = tuple(metric.value for metric in Metric)
METRICS = (*TIMES, RATIO, *ACCURACIES)
HIGHER_IS_BETTER = frozenset({RATIO, *(metric.value for metric in Metric if metric.higher_is_better)})
"""Metrics that are worse when they fall."""
_RULE = re.compile(r"^\s*(\w+)\s*(>\s*\+?|<\s*-?)\s*(\d+(?:\.\d+)?)\s*%\s*$")


@dataclass(frozen=True, slots=True)
class Rule:
    """Limit on regressions: `metric` may worsen by at most `percent`."""

    metric: str
    percent: float

    def __str__(self) -> str:
        return f"{self.metric}{'<-' if self.metric in HIGHER_IS_BETTER else '>+'}{self.percent:g}%"


@dataclass(frozen=True, slots=True)
class Change:
    """Change of a metric of one candidate between two reports.

    Attributes:
        name: Name of the candidate.
        metric: Name of the metric.
        old: Value in the earlier report, in ms for times.
        new: Value in the later report.
        value: New value over old; 1.1 is an increase of ten percent.
        low: Lower end of the 95 % interval of `value`.
        high: Upper end of that interval.
    """

    name: str
    metric: str
    old: float
    new: float
    value: float
    low: float
    high: float

    def breaks(self, rule: Rule) -> bool:
        """Return whether the change exceeds a rule and is significant: its whole interval is on the worse side."""
        if self.metric != rule.metric:
            return False
        if self.metric in HIGHER_IS_BETTER:
            return self.value < 1 - rule.percent / 100 and self.high < 1
        return self.value > 1 + rule.percent / 100 and self.low > 1

    def __str__(self) -> str:
        return f"{self.value - 1:+.1%} ({self.low - 1:+.1%} to {self.high - 1:+.1%})"


def parse_rule(text: str) -> Rule:
    """Parse a rule such as ``p95>+5%``, ``nme>+1%`` or ``ap50<-1%``.

    Raises:
        InputError: The text is not a rule, the metric is unknown, or the rule would reject improvements.
    """
    found = _RULE.match(text)
    if found is None or found.group(1) not in METRICS:
        raise InputError(f"expected a rule such as p95>+5% with one of {', '.join(METRICS)}; found {text!r}")
    rule = Rule(found.group(1), float(found.group(3)))
    if (found.group(2)[0] == "<") != (rule.metric in HIGHER_IS_BETTER):
        raise InputError(f"{text!r} would fail on an improvement; did you mean {rule}?")
    return rule


def compare_reports(
    old: BenchReport, new: BenchReport, metrics: Sequence[str], *, allow_mismatch: bool = False
) -> list[Change]:
    """Compute the changes of every candidate found in both reports.

    Intervals of times come from `replicates`; those of accuracies from bootstrap draws that both reports share.

    Args:
        old: The earlier report.
        new: The later report.
        metrics: Names from `METRICS`. A metric is skipped for candidates that lack it in either report.
        allow_mismatch: Compare even if hardware, allocators, threads, inputs or labelled data differ.

    Raises:
        InputError: The reports have no candidate in common, no candidate has one of the metrics in both, there are
            fewer rounds than `MIN_ROUNDS`, or there is a mismatch that was not allowed.
    """
    befores, afters = {row.name: row for row in old.rows}, {row.name: row for row in new.rows}
    pairs = [(befores[row.name], row) for row in new.rows if row.name in befores]
    if not pairs:
        raise InputError("the two reports have no candidate in common")
    if not allow_mismatch and (reasons := differences(old, new, pairs)):
        raise InputError(
            f"these reports cannot be compared: {'; '.join(reasons)} (--allow-mismatch compares them anyway)"
        )
    rng = np.random.default_rng(0)
    found = [_change(a, b, metric, befores, afters, rng) for a, b in pairs for metric in metrics]
    changes = [change for change in found if change is not None]
    for metric in metrics:
        if metric not in {change.metric for change in changes}:
            hint = "measure both with --data" if metric in ACCURACIES else "measure both with --baseline eager"
            raise InputError(f"no candidate has {metric} in both reports; {hint}")
    return changes


def missing_results(old: BenchReport, new: BenchReport, metrics: Sequence[str] = ()) -> list[str]:
    """List candidates, passed parity checks and `metrics` that only the old report has, with reasons."""
    afters = {row.name: row for row in new.rows}
    found = []
    for before in old.rows:
        after = afters.get(before.name)
        if after is None:
            found.append(_absence(before, new.failed))
            continue
        if after.metadata.failure and not before.metadata.failure:
            found.append(f"{after.name}: its process failed ({after.metadata.failure})")
        if before.parity and not after.parity:
            found.append(f"{after.name}: its parity check passed before, and now {_parity_now(after)}")
        for metric in metrics:
            if _has_metric(before, metric) and not _has_metric(after, metric):
                why = f" ({after.withheld})" if metric == RATIO and after.withheld else ""
                found.append(f"{after.name}: {metric} is missing now{why}")
    return found


def _absence(before: Row, failed: Sequence[FailedCandidate]) -> str:
    """Describe how a candidate failed, or that the new report lacks it altogether."""
    for candidate in failed:
        if _same_candidate(candidate.description, before.measurement.description):
            return f"{before.name}: {candidate.failure.value} ({candidate.reason})"
    return f"{before.name}: missing from the new report"


def _same_candidate(failed: Description, measured: Description) -> bool:
    """Match a failed candidate by its request; its precision may be unknown and its provider still `auto`."""
    if failed.precision is not None:
        return failed.name == measured.name
    requested = (failed.model, failed.batch, failed.level)
    same_provider = failed.provider in (measured.provider, Provider.AUTO.value)
    return same_provider and requested == (measured.model, measured.batch, measured.level)


def _parity_now(row: Row) -> str:
    return "was not made" if row.parity is None else f"fails ({row.parity})"


def _has_metric(row: Row, metric: str) -> bool:
    if metric in ACCURACIES:
        return row.accuracy is not None and row.accuracy.metric.value == metric
    return metric != RATIO or row.ratio is not None


def differences(old: BenchReport, new: BenchReport, pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    """Describe the mismatches that make two reports incomparable."""
    found = []
    for name in ("cpu", "machine", "logical_cores", "gpu", "power_mode"):
        a, b = getattr(old.environment, name), getattr(new.environment, name)
        if a != b:
            found.append(f"{name.replace('_', ' ')} was {a}, now is {b}")
    if (
        old.conditions is not None
        and new.conditions is not None
        and old.conditions.allocator != new.conditions.allocator
    ):
        found.append(f"the memory allocator was {old.conditions.allocator}, now is {new.conditions.allocator}")
    for a, b in pairs:
        x, y = a.measurement.description, b.measurement.description
        if x.threads != y.threads:
            found.append(f"{x.name} had {counted(x.threads, 'thread')}, now has {y.threads}")
        if a.baseline is not None and b.baseline is not None and a.baseline != b.baseline:
            found.append(f"{x.name} was compared with {a.baseline}, now with {b.baseline}")
        if x.inputs_digest != y.inputs_digest:
            found.append(f"{x.name} had different inputs")
        if a.accuracy is not None and b.accuracy is not None and a.accuracy.data_digest != b.accuracy.data_digest:
            found.append(f"{x.name} was evaluated on different data")
    return found


def _change(
    a: Row, b: Row, metric: str, befores: dict[str, Row], afters: dict[str, Row], rng: np.random.Generator
) -> Change | None:
    before, after = _statistic(a, metric, befores, rng), _statistic(b, metric, afters, rng)
    if before is None or after is None or not before[0] > 0:
        return None
    count = min(len(before), len(after))
    with np.errstate(divide="ignore", invalid="ignore"):
        changes = after[1:count] / before[1:count]
    changes = changes[np.isfinite(changes)]
    if not len(changes):
        return None
    low, high = np.quantile(changes, [0.025, 0.975])
    value = float(after[0] / before[0])
    return Change(
        name=b.name,
        metric=metric,
        old=float(before[0]),
        new=float(after[0]),
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
    )


def _statistic(row: Row, metric: str, rows: dict[str, Row], rng: np.random.Generator) -> FloatArray | None:
    """Return a metric's value and its resampled values (1 + resamples,); None if the row lacks the metric."""
    if not _has_metric(row, metric):
        return None
    if row.accuracy is not None and metric in ACCURACIES:
        return np.array([row.accuracy.value, *row.accuracy.replicates])
    if metric == RATIO:
        logs = log_ratios(rows[str(row.baseline)].measurement, row.measurement)
        ratios: FloatArray = np.exp(replicates(logs, row_medians, rng))
        return ratios
    return _times(row.measurement, metric, rng)


def _times(measurement: Measurement, metric: str, rng: np.random.Generator) -> FloatArray:
    """Return a time's geometric mean over processes in ms, and its resampled values (1 + `RESAMPLES`,)."""

    def statistic(calls_ns: FloatArray) -> FloatArray:
        if metric == "mean":
            return np.asarray(np.log(calls_ns.mean(axis=1) / 1e6))
        return np.asarray(np.log(row_percentiles(calls_ns, 100 if metric == "max" else int(metric[1:])) / 1e6))

    if len(measurement.rounds_ns) < MIN_ROUNDS:
        raise InputError(
            f"{measurement.description.name} has {counted(len(measurement.rounds_ns), 'round')}, but a comparison "
            f"needs {MIN_ROUNDS} or more; measure with --rounds {MIN_ROUNDS} or more"
        )
    processes = [np.array(run.latencies_ns, dtype=np.float64) for run in measurement.processes]
    times: FloatArray = np.exp(replicates(processes, statistic, rng))
    return times
