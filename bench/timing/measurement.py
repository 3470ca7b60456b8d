"""Measured latencies, with a description of what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import chain

from ...runtime.models.spec import Precision
from ...runtime.values import percentile


class Level(str, Enum):
    """Scope of the timing."""

    MODEL = "model"
    """The model alone, from a batch of crops to its outputs."""
    PICTURE = "picture"
    """Crop a face from a picture, run the model, and map the result back to the picture."""
    PIPELINE = "pipeline"
    """A video frame, from the file to the tracked faces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Description of what was measured; `name` is unique within a report."""

    name: str
    model: str
    precision: Precision | None
    """None if unknown, as for a foreign model."""
    provider: str
    """The actual provider: ``cpu``, ``cuda``, ``eager-cpu``, …"""
    batch: int
    """Images per call."""
    threads: int
    """Threads per operator; 0: all cores."""
    inputs_digest: str = ""
    """Digest of the inputs; measurements on different inputs are not comparable."""
    task: str = ""
    """The model's task; empty for a foreign model."""
    level: Level = Level.MODEL

    def __str__(self) -> str:
        precision = "" if self.precision is None else f" {self.precision.value}"
        level = "" if self.level is Level.MODEL else f" ({self.level.value})"
        return f"{self.model}{precision} on {self.provider}, batch {self.batch}{level}"


@dataclass(frozen=True, slots=True)
class ProcessRun:
    """Raw values from one process of a candidate.

    Attributes:
        warm_up_ns: Latencies before the rounds.
        latencies_ns: Latencies by round; round k of all candidates was timed at about the same time.
        device_ns: Latencies of the same calls by the device's own clock; empty if it has none.
    """

    warm_up_ns: tuple[int, ...]
    latencies_ns: tuple[tuple[int, ...], ...]
    device_ns: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.latencies_ns or not all(self.latencies_ns):
            raise ValueError("a process needs at least one round, and each round a call")
        if len(set(map(len, self.latencies_ns))) > 1:
            raise ValueError("the rounds of a process must have the same number of calls")
        if min(values := (*self.warm_up_ns, *chain(*self.latencies_ns))) <= 0 or max(values) >= 2**63:
            raise ValueError("a latency must be above 0 ns and below 2**63 ns")


@dataclass(frozen=True, slots=True)
class Measurement:
    """All latencies of one candidate, by process.

    Percentiles are nearest-rank over all calls, so each is a latency that was actually measured.
    """

    description: Description
    processes: tuple[ProcessRun, ...]

    def __post_init__(self) -> None:
        if not self.processes:
            raise ValueError("a measurement needs at least one process")

    @property
    def rounds(self) -> tuple[int, ...]:
        """Number of rounds of each process."""
        return tuple(len(run.latencies_ns) for run in self.processes)

    @property
    def rounds_ns(self) -> tuple[tuple[int, ...], ...]:
        """Latencies by round, over all processes."""
        return tuple(chain.from_iterable(run.latencies_ns for run in self.processes))

    @property
    def calls_ns(self) -> tuple[int, ...]:
        """Latencies of all calls, in order."""
        return tuple(chain.from_iterable(self.rounds_ns))

    def percentile_ms(self, percent: int) -> float:
        """Return the smallest latency in ms that at least `percent` of the calls did not exceed."""
        return percentile(self.calls_ns, percent) / 1e6

    @property
    def p50_ms(self) -> float:
        """Median latency of a call in ms."""
        return self.percentile_ms(50)

    @property
    def p90_ms(self) -> float:
        """90th percentile in ms."""
        return self.percentile_ms(90)

    @property
    def p99_ms(self) -> float:
        """99th percentile in ms."""
        return self.percentile_ms(99)

    @property
    def max_ms(self) -> float:
        """The slowest call in ms."""
        return self.percentile_ms(100)

    @property
    def images_per_second(self) -> float:
        """Throughput: number of images divided by the sum of all latencies."""
        calls = self.calls_ns
        return self.description.batch * len(calls) / (sum(calls) / 1e9)

    @property
    def spread(self) -> float:
        """Ratio of p90 to p50: 1 if all calls take equally long, more on a busy machine."""
        return self.p90_ms / self.p50_ms
