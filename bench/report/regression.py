"""Whether a later report is worse than an earlier one, in time or in accuracy, beyond what chance explains."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mien.bench.accuracy.accuracy import Metric
from mien.bench.report.report import BenchReport, Row
from mien.bench.timing.measurement import Description, Measurement
from mien.bench.timing.speedup import MIN_ROUNDS, log_ratios, replicates
from mien.runtime.errors import InputError
from mien.runtime.models.runner import Provider
from mien.runtime.values import FloatArray, percentile

TIMES = ("p50", "p90", "p95", "p99", "max", "mean")
RATIO = "ratio"
"""The ratio to the baseline: what slows the whole machine down slows both."""
ACCURACIES = tuple(metric.value for metric in Metric)
METRICS = (*TIMES, RATIO, *ACCURACIES)
RISING = frozenset({RATIO, *(metric.value for metric in Metric if metric.higher_is_better)})
"""Metrics of which less is worse."""
RESAMPLES = 2000
_RULE = re.compile(r"^\s*(\w+)\s*(>\s*\+?|<\s*-?)\s*(\d+(?:\.\d+)?)\s*%\s*$")


@dataclass(frozen=True, slots=True)
class Rule:
    """A change that is too much: `metric` worse by more than `percent`."""

    metric: str
    percent: float

    def __str__(self) -> str:
        return f"{self.metric}{'<-' if self.metric in RISING else '>+'}{self.percent:g}%"


@dataclass(frozen=True, slots=True)
class Change:
    """A metric of one candidate, later over earlier: 1.1 is ten percent more. low, high: interval of 95 %.

    old, new: in ms for times, else in the metric's own unit.
    """

    name: str
    metric: str
    old: float
    new: float
    value: float
    low: float
    high: float

    def breaks(self, rule: Rule) -> bool:
        """Whether it is beyond the rule, and more than chance: its whole interval lies on the worse side."""
        if self.metric != rule.metric:
            return False
        if self.metric in RISING:
            return self.value < 1 - rule.percent / 100 and self.high < 1
        return self.value > 1 + rule.percent / 100 and self.low > 1

    def __str__(self) -> str:
        return f"{self.value - 1:+.1%} ({self.low - 1:+.1%} to {self.high - 1:+.1%})"


def parse_rule(text: str) -> Rule:
    """Read a rule such as ``p95>+5%``, ``nme>+1%`` or ``ap50<-1%``.

    Raises:
        InputError: another form, an unknown metric, or the side on which it is better.
    """
    found = _RULE.match(text)
    if found is None or found.group(1) not in METRICS:
        raise InputError(f"wanted a rule such as p95>+5% with one of {', '.join(METRICS)}; found {text!r}")
    rule = Rule(found.group(1), float(found.group(3)))
    if (found.group(2)[0] == "<") != (rule.metric in RISING):
        raise InputError(f"{text!r} names what is better; wanted {rule}")
    return rule


def compare_reports(
    old: BenchReport, new: BenchReport, metrics: Sequence[str], *, anyway: bool = False, seed: int = 0
) -> list[Change]:
    """Changes of every candidate that both reports have, a row for each of `metrics` that both know of it.

    Of times see `replicates`; of accuracies the samples are drawn anew, which are the same in both.

    Raises:
        InputError: no candidate in common, a metric that no candidate has in both, or fewer rounds than `MIN_ROUNDS`;
            or, unless `anyway`, other hardware, allocator, threads, inputs or labelled data.
    """
    befores, afters = {row.name: row for row in old.rows}, {row.name: row for row in new.rows}
    pairs = [(befores[row.name], row) for row in new.rows if row.name in befores]
    if not pairs:
        raise InputError("the two reports have no candidate in common")
    if not anyway and (reasons := differences(old, new, pairs)):
        raise InputError(
            f"these reports cannot be compared: {'; '.join(reasons)} (--allow-mismatch compares them still)"
        )
    rng = np.random.default_rng(seed)
    changes = []
    for metric in metrics:
        found = [_change(a, b, metric, befores, afters, rng) for a, b in pairs]
        if not any(found):
            hint = "measure both with --data" if metric in ACCURACIES else "measure both with --baseline eager"
            raise InputError(f"no candidate has {metric} in both reports; {hint}")
        changes += [change for change in found if change is not None]
    return sorted(changes, key=lambda change: [b.name for _, b in pairs].index(change.name))


def missing_results(old: BenchReport, new: BenchReport, metrics: Sequence[str] = ()) -> list[str]:
    """What was there before and is not now, each with its reason: candidates, parities that held, `metrics`."""
    found = []
    for one in new.failed:
        if any(_same_candidate(one.description, row.measurement.description) for row in old.rows):
            found.append(f"{one.description.name} {one.failure.value} ({one.reason})")
    afters = {row.name: row for row in new.rows}
    for before in old.rows:
        after = afters.get(before.name)
        if after is None:
            continue
        if after.metadata.failure and not before.metadata.failure:
            found.append(f"{after.name}: its process failed ({after.metadata.failure})")
        if before.parity and not after.parity:
            found.append(f"{after.name}: its parity held and {_parity_now(after)}")
        for metric in metrics:
            if _has_metric(before, metric) and not _has_metric(after, metric):
                why = f" ({after.withheld})" if metric == RATIO and after.withheld else ""
                found.append(f"{after.name}: {metric} is not known any more{why}")
    return found


def _same_candidate(failed: Description, measured: Description) -> bool:
    """One that was never opened bears what was asked for: no precision, and `auto` for whatever it would have been."""
    if failed.precision is not None:
        return failed.name == measured.name
    asked = (failed.model, failed.batch, failed.level)
    of_kind = failed.provider in (measured.provider, Provider.AUTO.value)
    return of_kind and asked == (measured.model, measured.batch, measured.level)


def _parity_now(row: Row) -> str:
    return "was not checked" if row.parity is None else f"is false ({row.parity})"


def _has_metric(row: Row, metric: str) -> bool:
    if metric in ACCURACIES:
        return row.accuracy is not None and row.accuracy.metric.value == metric
    return metric != RATIO or row.ratio is not None


def differences(old: BenchReport, new: BenchReport, pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    """What makes two reports speak of different things, in plain words."""
    found = []
    for name in ("cpu", "machine", "logical_cores", "gpu", "power_mode"):
        a, b = getattr(old.environment, name), getattr(new.environment, name)
        if a != b:
            found.append(f"{name.replace('_', ' ')} was {a}, is {b}")
    if (
        old.conditions is not None
        and new.conditions is not None
        and old.conditions.allocator != new.conditions.allocator
    ):
        found.append(f"the memory allocator was {old.conditions.allocator}, is {new.conditions.allocator}")
    for a, b in pairs:
        x, y = a.measurement.description, b.measurement.description
        if x.threads != y.threads:
            found.append(f"{x.name} had {x.threads} thread(s), has {y.threads}")
        if a.baseline is not None and b.baseline is not None and a.baseline != b.baseline:
            found.append(f"{x.name} was compared with {a.baseline}, is with {b.baseline}")
        if x.inputs_digest != y.inputs_digest:
            found.append(f"{x.name} had other inputs")
        if a.accuracy is not None and b.accuracy is not None and a.accuracy.data_digest != b.accuracy.data_digest:
            found.append(f"{x.name} was evaluated on other data")
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
    low, high = np.quantile(changes[np.isfinite(changes)], [0.025, 0.975])
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
    """A metric (1 + resamples,): as it is first, then resampled; None where the row does not have it."""
    if not _has_metric(row, metric):
        return None
    if row.accuracy is not None and metric in ACCURACIES:
        return np.array([row.accuracy.value, *row.accuracy.replicates])
    if metric == RATIO:
        logs = log_ratios(rows[str(row.baseline)].measurement, row.measurement)
        ratios: FloatArray = np.exp(replicates(logs, np.median, rng, RESAMPLES))
        return ratios
    return _times(row.measurement, metric, rng)


def _times(measurement: Measurement, metric: str, rng: np.random.Generator) -> FloatArray:
    """A time in ms (1 + RESAMPLES,), the geometric mean of that of each process; see `replicates`."""

    def statistic(calls_ns: FloatArray) -> float:
        if metric == "mean":
            return float(np.log(calls_ns.mean() / 1e6))
        return float(np.log(percentile(calls_ns.ravel(), 100 if metric == "max" else int(metric[1:])) / 1e6))

    if len(measurement.rounds_ns) < MIN_ROUNDS:
        raise InputError(
            f"{measurement.description.name} was measured in {len(measurement.rounds_ns)} round(s), a comparison needs "
            f"{MIN_ROUNDS}; measure with --rounds {MIN_ROUNDS} or more"
        )
    processes = [np.array(run.latencies_ns, dtype=np.float64) for run in measurement.processes]
    times: FloatArray = np.exp(replicates(processes, statistic, rng, RESAMPLES))
    return times
