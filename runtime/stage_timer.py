"""Records the duration of each stage of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from .values import percentile

STAGES = (
    "capture",
    "detect",
    "landmarks",
    "attributes",
    "classify",
    "smooth",
    "blur",
    "draw",
    "write",
    "process",
    "end_to_end",
    "frame_age",
)
"""Stages in the order in which a frame passes them; process spans detect to smooth, frame_age capture to result."""


KEPT = 1 << 15
"""Durations kept for the percentiles of a stage: about 18 minutes at 30 fps."""


class StageTimer:
    """Durations by stage in bounded memory: the last `KEPT` of each, their count and their sum."""

    def __init__(self, *, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self.now = clock
        self._durations_ns: dict[str, npt.NDArray[np.int64]] = {
            stage: np.zeros(KEPT, dtype=np.int64) for stage in STAGES
        }
        self._counts: dict[str, int] = dict.fromkeys(STAGES, 0)
        self._totals_ns: dict[str, int] = dict.fromkeys(STAGES, 0)

    def record(self, stage: str, duration_ns: int) -> None:
        """Record one duration."""
        self._durations_ns[stage][self._counts[stage] % KEPT] = duration_ns
        self._totals_ns[stage] += duration_ns
        self._counts[stage] += 1

    def total_s(self, stage: str) -> float:
        """Return the sum of all durations of a stage, in seconds."""
        return self._totals_ns[stage] / 1e9

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Time the block inside the ``with`` statement."""
        start = self.now()
        try:
            yield
        finally:
            self.record(stage, self.now() - start)

    def percentile_ms(self, stage: str, percent: int, *, last: int = KEPT) -> float:
        """Return a percentile of the `last` durations (at most `KEPT`) in ms; NaN if there are none."""
        count = self._counts[stage]
        newest_first = np.arange(count - 1, max(count - min(last, KEPT), 0) - 1, -1) % KEPT
        values = self._durations_ns[stage][newest_first]
        return percentile(values, percent) / 1e6 if len(values) else float("nan")

    def summary(self, *, last: int = KEPT) -> dict[str, dict[str, float]]:
        """Return ``{"stage": {"p50_ms", "p95_ms", "p99_ms", "n"}}`` for stages that ran, over the `last` durations."""
        return {
            stage: {
                **{f"p{p}_ms": round(self.percentile_ms(stage, p, last=last), 4) for p in (50, 95, 99)},
                "n": count,
            }
            for stage, count in self._counts.items()
            if count
        }
