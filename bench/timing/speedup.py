"""Compares the latencies of two candidates, and judges whether a measurement can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...runtime.errors import InputError
from ...runtime.values import FloatArray
from .interleave import has_settled
from .measurement import Level, Measurement, ProcessRun

MIN_ROUNDS = 5
"""With fewer rounds no interval of 95 % exists: five values hold their median between them with 94 %."""
NOTICEABLE = 0.02
"""Smaller differences come from memory layout and order as easily as from the code (Mytkowicz et al., ASPLOS 2009)."""
MIN_CALLS = 100
MAX_SPREAD = 1.25
MAX_DRIFT = 0.05
MAX_BETWEEN_PROCESSES = 1.1
"""Ratio of the slowest process's median to the fastest's that leads to a warning."""
ONE_PROCESS = "one process: the intervals do not cover what differs from process to process"


@dataclass(frozen=True, slots=True)
class Ratio:
    """The baseline's latency over the candidate's: 2 means twice as fast.

    Attributes:
        value: The ratio.
        low: Lower end of its 95 % interval.
        high: Upper end.
        rounds: Number of rounds it was taken from.
    """

    value: float
    low: float
    high: float
    rounds: int

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.value <= self.high < float("inf"):
            raise ValueError(f"no ratio with an interval: {self.value} in {self.low} to {self.high}")

    @property
    def differs(self) -> bool:
        """True if the whole interval lies beyond 1 ± `NOTICEABLE`."""
        return self.low > 1 + NOTICEABLE or self.high < 1 / (1 + NOTICEABLE)

    def __str__(self) -> str:
        return f"{self.value:.2f}× ({self.low:.2f}–{self.high:.2f})"


def paired_ratio(
    baseline: Measurement,
    candidate: Measurement,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> Ratio:
    """Take the median over rounds of the ratio of the two medians of a round, with an interval; see `median_ratio`.

    Both must come from one run: only then does round k of one belong to round k of the other.

    Raises:
        InputError: Different batches or numbers of rounds, or fewer rounds than `MIN_ROUNDS`.
    """
    a, b = baseline.description, candidate.description
    if a.batch != b.batch:
        raise InputError(f"expected the same batch, found {a.name} with {a.batch} and {b.name} with {b.batch}")
    if baseline.rounds != candidate.rounds:
        found = [" + ".join(map(str, m.rounds)) for m in (baseline, candidate)]
        raise InputError(f"{a.name} has {found[0]} rounds and {b.name} {found[1]}; measure both in one run")
    rounds = sum(baseline.rounds)
    if rounds < MIN_ROUNDS:
        raise InputError(f"{rounds} rounds are too few for an interval; take at least {MIN_ROUNDS}")
    return median_ratio(log_ratios(baseline, candidate), seed=seed, resamples=resamples)


def median_ratio(logs: Sequence[FloatArray], *, seed: int = 0, resamples: int = 2000) -> Ratio:
    """Take the median over rounds of ratios, given as logarithms (rounds,) by process; see `replicates`."""
    middle, *draws = replicates(logs, np.median, np.random.default_rng(seed), resamples)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Ratio(
        value=float(np.exp(middle)),
        low=float(np.exp(min(low, middle))),
        high=float(np.exp(max(high, middle))),
        rounds=sum(map(len, logs)),
    )


def log_ratios(baseline: Measurement, candidate: Measurement) -> list[FloatArray]:
    """Take the logarithm of the ratio of each round's two medians (rounds,), by process.

    In logarithms, so that swapping the two gives the reciprocal also for an even number of rounds.
    """
    medians = [[np.log(_round_medians(run)) for run in m.processes] for m in (baseline, candidate)]
    return [a - b for a, b in zip(*medians, strict=True)]


def replicates(
    processes: Sequence[FloatArray], statistic: Callable[[FloatArray], Any], rng: np.random.Generator, count: int
) -> FloatArray:
    """Compute a statistic on a logarithmic scale (1 + count,): first as measured, then resampled.

    processes: values of rounds (rounds, …), by process. Those of one process are alike: the statistic is taken of each
    and averaged; Student's t tells how far off the mean may be (Georges et al., OOPSLA 2007). With one process rounds
    are drawn with replacement, for the calls of one round are alike (a block bootstrap).
    """
    if len(processes) > 1:
        each = np.array([float(statistic(run)) for run in processes])
        error = each.std(ddof=1) / np.sqrt(len(each))
        off = rng.standard_t(len(each) - 1, count) * error
        spread: FloatArray = each.mean() + np.append(0.0, off)
        return spread
    (rounds,) = processes
    picks = rng.integers(0, len(rounds), (count, len(rounds)))
    draws: FloatArray = np.array([float(statistic(rounds)), *(float(statistic(rounds[pick])) for pick in picks)])
    return draws


def measurement_warnings(measurement: Measurement) -> list[str]:
    """List reasons to doubt a measurement, in plain words."""
    calls = np.asarray(measurement.calls_ns, dtype=np.float64)
    found = []
    if len(calls) < MIN_CALLS:
        found.append(f"{len(calls)} calls are few: p99 needs at least {MIN_CALLS}")
    if len(measurement.rounds_ns) < MIN_ROUNDS:
        found.append(f"{len(measurement.rounds_ns)} round(s): a comparison needs at least {MIN_ROUNDS}")
    unsettled = [run for run in measurement.processes if not has_settled(run.warm_up_ns)]
    if unsettled:
        calls_made = max(len(run.warm_up_ns) for run in unsettled)
        of_processes = f" in {len(unsettled)} of {len(measurement.processes)} processes"
        found.append(f"the latencies had not settled after {calls_made} warm-up calls{of_processes}")
    medians = [float(np.median(np.concatenate(run.latencies_ns))) for run in measurement.processes]
    if max(medians) > MAX_BETWEEN_PROCESSES * min(medians):
        found.append(f"the slowest process takes {max(medians) / min(medians):.2f} times as long as the fastest")
    # A pipeline's frames differ by what is done for them: every so often the detector runs.
    if measurement.spread > MAX_SPREAD and measurement.description.level is not Level.PIPELINE:
        found.append(f"the latencies scatter: p90 is {measurement.spread:.2f} times p50")
    third = len(calls) // 3
    if third:
        drift = float(np.median(calls[-third:]) / np.median(calls[:third])) - 1
        if abs(drift) > MAX_DRIFT:
            word = "slower" if drift > 0 else "faster"
            found.append(
                f"the last third of the calls is {abs(drift):.0%} {word} than the first: heat or clock changes"
            )
    return found


def _round_medians(run: ProcessRun) -> FloatArray:
    """Median latency of each round (n,), ns."""
    return np.array([np.median(one_round) for one_round in run.latencies_ns])
