"""Compares the latencies of two candidates, and decides whether a measurement can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.errors import InputError
from ...runtime.values import FloatArray
from ...runtime.wording import counted
from .interleave import has_settled
from .measurement import Level, Measurement, ProcessRun

MIN_ROUNDS = 5
"""Minimum for an interval: the range of five values covers the median with a probability of 94 %, close to 95 %."""
MIN_CALLS = 100
MAX_SPREAD = 1.25
MAX_DRIFT = 0.05
MAX_BETWEEN_PROCESSES = 1.1
"""Larger ratios between the medians of the slowest and the fastest process lead to a warning."""
RESAMPLES = 2000
VALUES_AT_ONCE = 1 << 20
"""Values that are resampled at once, which bounds the memory."""
ONE_PROCESS = "one process: the intervals do not cover variation between processes"


@dataclass(frozen=True, slots=True)
class Ratio:
    """The baseline's latency divided by the candidate's: 2 means twice as fast.

    Attributes:
        value: The ratio.
        low: Lower end of its 95 % interval.
        high: Upper end of that interval.
        rounds: Number of rounds behind it.
    """

    value: float
    low: float
    high: float
    rounds: int

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.value <= self.high < float("inf"):
            raise ValueError(f"no ratio with an interval: {self.value} in {self.low} to {self.high}")

    def __str__(self) -> str:
        return f"{self.value:.2f}× ({self.low:.2f}–{self.high:.2f})"


def paired_ratio(baseline: Measurement, candidate: Measurement) -> Ratio:
    """Compute the ratio of two candidates' median latencies in each round, and its median over the rounds.

    Both must come from the same run, so that round k of one was timed next to round k of the other.

    Args:
        baseline: Measurement of the baseline.
        candidate: Measurement of the candidate.

    Raises:
        InputError: Batch sizes or numbers of rounds differ, or there are fewer rounds than `MIN_ROUNDS`.
    """
    a, b = baseline.description, candidate.description
    if a.batch != b.batch:
        raise InputError(f"expected the same batch, found {a.name} with {a.batch} and {b.name} with {b.batch}")
    if baseline.rounds != candidate.rounds:
        found = " and ".join(f"{' + '.join(map(str, m.rounds))} of {m.description.name}" for m in (baseline, candidate))
        raise InputError(f"expected the same rounds, found {found}; measure both in one run")
    rounds = sum(baseline.rounds)
    if rounds < MIN_ROUNDS:
        raise InputError(f"an interval needs {MIN_ROUNDS} rounds; found {rounds}")
    return median_ratio(log_ratios(baseline, candidate))


def median_ratio(logs: Sequence[FloatArray]) -> Ratio:
    """Compute the median of ratios with its interval, from their logarithms (rounds,) by process; see `replicates`."""
    middle, *draws = replicates(logs, row_medians, np.random.default_rng(0))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Ratio(
        value=float(np.exp(middle)),
        low=float(np.exp(min(low, middle))),
        high=float(np.exp(max(high, middle))),
        rounds=sum(map(len, logs)),
    )


def log_ratios(baseline: Measurement, candidate: Measurement) -> list[FloatArray]:
    """Return the logarithms (rounds,) of the ratios of the medians in each round, by process.

    With logarithms, swapping the two yields the reciprocal, whatever the number of rounds.
    """
    medians = [[np.log(_round_medians(run)) for run in m.processes] for m in (baseline, candidate)]
    return [a - b for a, b in zip(*medians, strict=True)]


def row_medians(rows: FloatArray) -> FloatArray:
    """Return the median of each row of (m, n) values."""
    return np.asarray(np.median(rows, axis=1))


def replicates(
    processes: Sequence[FloatArray],
    statistic: Callable[[FloatArray], FloatArray],
    rng: np.random.Generator,
) -> FloatArray:
    """Resample a statistic on a logarithmic scale.

    Values from the same process are correlated. With several processes, the statistic is therefore computed for each
    and averaged, and the mean is perturbed by Student's t (Georges et al., OOPSLA 2007). With a single process, whole
    rounds are drawn with replacement (a block bootstrap).

    Args:
        processes: Values (rounds, …) of each process.
        statistic: Maps sets of values (sets, n), rounds of a process run together, to the statistic of each (sets,).
        rng: Source of randomness.

    Returns:
        The measured value, followed by the resampled ones (1 + `RESAMPLES`,).
    """
    each = np.concatenate([statistic(run.reshape(1, -1)) for run in processes])
    if len(processes) > 1:
        error = each.std(ddof=1) / np.sqrt(len(each))
        return np.asarray(each.mean() + error * np.append(0.0, student_t(len(each) - 1, rng)))
    (rounds,) = processes
    picks = rng.integers(0, len(rounds), (RESAMPLES, len(rounds)))
    parts = np.array_split(picks, -(-RESAMPLES * rounds.size // VALUES_AT_ONCE))
    return np.concatenate([each, *(statistic(rounds[part].reshape(len(part), -1)) for part in parts)])


def student_t(freedom: int, rng: np.random.Generator) -> FloatArray:
    """Return `RESAMPLES` quantiles of Student's t that divide it into equal parts, in random order.

    Unlike as many independent draws, whose 2.5 % quantile is off by several percent, they have the quantiles of the
    distribution itself. With t = √freedom · tan(angle), the density of the angle is proportional to cos(angle) to the
    power of freedom − 1, which is integrated numerically.

    Args:
        freedom: Degrees of freedom, 1 or more.
        rng: Source of randomness.
    """
    angles = np.linspace(-np.pi / 2, np.pi / 2, 20_001)
    density = np.cos(angles) ** (freedom - 1)
    cumulative = np.append(0.0, np.cumsum(density[1:] + density[:-1]))
    shares = (rng.permutation(RESAMPLES) + 0.5) / RESAMPLES
    return np.asarray(np.sqrt(freedom) * np.tan(np.interp(shares, cumulative / cumulative[-1], angles)))


def measurement_warnings(measurement: Measurement) -> list[str]:
    """List reasons to doubt a measurement."""
    calls = np.asarray(measurement.calls_ns, dtype=np.float64)
    found = []
    if len(calls) < MIN_CALLS:
        found.append(f"only {counted(len(calls), 'call')}: p99 needs at least {MIN_CALLS}")
    if len(measurement.rounds_ns) < MIN_ROUNDS:
        found.append(f"{counted(len(measurement.rounds_ns), 'round')}: a comparison needs at least {MIN_ROUNDS}")
    unsettled = [run for run in measurement.processes if not has_settled(run.warm_up_ns)]
    if unsettled:
        calls_made = max(len(run.warm_up_ns) for run in unsettled)
        of_processes = f" in {len(unsettled)} of {len(measurement.processes)} processes"
        found.append(f"the latencies had not settled after {counted(calls_made, 'warm-up call')}{of_processes}")
    medians = [float(np.median(np.concatenate(run.latencies_ns))) for run in measurement.processes]
    if max(medians) > MAX_BETWEEN_PROCESSES * min(medians):
        found.append(f"the slowest process takes {max(medians) / min(medians):.2f} times as long as the fastest")
    # Frames of a pipeline differ in cost, because the detector runs on some of them only.
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
    """Return the median latency of each round (n,) in ns."""
    return np.array([np.median(one_round) for one_round in run.latencies_ns])
