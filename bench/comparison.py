"""Whether one candidate is faster than another, and whether its numbers can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..runtime.errors import InputError
from ..runtime.values import FloatArray
from .measure import Level, Measurement, has_settled

MIN_ROUNDS = 5
"""With fewer rounds no interval of 95 % exists: five values hold their median between them with 94 %."""
NOTICEABLE = 0.02
"""Smaller differences come from memory layout and order as easily as from the code (Mytkowicz et al., ASPLOS 2009)."""
MIN_CALLS = 100
MAX_SPREAD = 1.25
MAX_DRIFT = 0.05


@dataclass(frozen=True, slots=True)
class Ratio:
    """The baseline's latency over the candidate's: 2 means twice as fast. low, high: interval of 95 %."""

    value: float
    low: float
    high: float
    rounds: int

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.value <= self.high < float("inf"):
            raise ValueError(f"no ratio with an interval: {self.value} in {self.low} to {self.high}")

    @property
    def differs(self) -> bool:
        """Whether the whole interval lies beyond 1 ± `NOTICEABLE`."""
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
    """Median over rounds of the ratio of the two medians of a round, with a bootstrap interval over rounds.

    Both must come from one run of `measure_interleaved`: only then does round k of one belong to round k of the other.

    Raises:
        InputError: different batches or numbers of rounds, or fewer rounds than `MIN_ROUNDS`.
    """
    a, b = baseline.description, candidate.description
    if a.batch != b.batch:
        raise InputError(f"wanted the same batch, found {a.name} with {a.batch} and {b.name} with {b.batch}")
    rounds = len(candidate.latencies_ns)
    if len(baseline.latencies_ns) != rounds:
        raise InputError(
            f"{a.name} has {len(baseline.latencies_ns)} rounds and {b.name} {rounds}; measure both in one run"
        )
    if rounds < MIN_ROUNDS:
        raise InputError(f"{rounds} rounds are too few for an interval; take at least {MIN_ROUNDS}")
    return ratio_of_rounds(round_medians(baseline), round_medians(candidate), seed=seed, resamples=resamples)


def ratio_of_rounds(baseline: FloatArray, candidate: FloatArray, *, seed: int = 0, resamples: int = 2000) -> Ratio:
    """Median over rounds (n,) of the ratio of two latencies of a round, with a bootstrap interval over rounds."""
    middle, *draws = log_ratios(baseline, candidate, np.random.default_rng(seed), resamples)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Ratio(
        value=float(np.exp(middle)),
        low=float(np.exp(min(low, middle))),
        high=float(np.exp(max(high, middle))),
        rounds=len(baseline),
    )


def log_ratios(baseline: FloatArray, candidate: FloatArray, rng: np.random.Generator, resamples: int) -> FloatArray:
    """Logarithm of the median ratio (1 + resamples,): over all rounds (n,) first, then over rounds drawn anew.

    In logarithms, so that swapping the two gives the reciprocal also for an even number of rounds.
    """
    logs = np.log(baseline) - np.log(candidate)
    picks = rng.integers(0, len(logs), size=(resamples, len(logs)))
    medians: FloatArray = np.concatenate([[np.median(logs)], np.median(logs[picks], axis=1)])
    return medians


def instability(measurement: Measurement) -> list[str]:
    """Reasons to doubt a measurement, in plain words; empty when there are none."""
    calls = np.asarray(measurement.calls_ns, dtype=np.float64)
    found = []
    if len(calls) < MIN_CALLS:
        found.append(f"{len(calls)} calls are few: p99 needs at least {MIN_CALLS}")
    if len(measurement.latencies_ns) < MIN_ROUNDS:
        found.append(f"{len(measurement.latencies_ns)} round(s): a comparison needs at least {MIN_ROUNDS}")
    if not has_settled(measurement.warm_up_ns):
        found.append(f"the latencies had not settled after {len(measurement.warm_up_ns)} warm-up calls")
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


def round_medians(measurement: Measurement) -> FloatArray:
    """Median latency of each round (n,), ns."""
    return np.array([np.median(one_round) for one_round in measurement.latencies_ns])
