"""How long each stage of a run takes."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

STAGES = (
    "capture",
    "detect",
    "landmarks",
    "attributes",
    "smooth",
    "draw",
    "write",
    "process",
    "end_to_end",
    "frame_age",
)
"""In the order of a frame's way; process is detect to smooth, frame_age from capture to the result."""


class StageClock:
    """Collects durations by stage: eight bytes each, nothing is thrown away."""

    def __init__(self, *, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self.now = clock
        self._durations_ns: dict[str, array[int]] = {stage: array("q") for stage in STAGES}

    def record(self, stage: str, duration_ns: int) -> None:
        """Note one duration."""
        self._durations_ns[stage].append(duration_ns)

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Time what happens inside."""
        start = self.now()
        try:
            yield
        finally:
            self.record(stage, self.now() - start)

    def percentile_ms(self, stage: str, percent: float, *, last: int = 0) -> float:
        """A percentile in ms, over the `last` durations if given; NaN when there are none."""
        values = self._durations_ns[stage][-last:] if last else self._durations_ns[stage]
        return float(np.percentile(values, percent)) / 1e6 if len(values) else float("nan")

    def summary(self) -> dict[str, dict[str, float]]:
        """``{"stage": {"p50_ms", "p95_ms", "p99_ms", "n"}}`` of the stages that ran."""
        return {
            stage: {
                **{f"p{p}_ms": round(self.percentile_ms(stage, p), 4) for p in (50, 95, 99)},
                "n": len(values),
            }
            for stage, values in self._durations_ns.items()
            if len(values)
        }
