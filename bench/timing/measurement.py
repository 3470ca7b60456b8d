"""Measured latencies, and the description of what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import chain

from ...runtime.models.spec import Precision
from ...runtime.values import percentile


class Level(str, Enum):
    """How much of the way from picture to result is timed."""

    MODEL = "model"
    """The model alone: a batch of crops in, its outputs back."""
    PICTURE = "picture"
    """A face's crop cut out of a picture, the model, and the result taken back to the picture."""
    PIPELINE = "pipeline"
    """A frame of a video, from the file to the tracked faces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Description of what was measured; `name` is unique within a report."""

    name: str
    model: str
    precision: Precision | None
    """None if unknown, as for a foreign file."""
    provider: str
    """What really runs it: ``cpu``, ``cuda``, ``eager-cpu``, …"""
    batch: int
    """Images in a call."""
    threads: int
    """Threads of one operator, 0 for all cores."""
    inputs_digest: str = ""
    """Digest of the inputs: measurements on other inputs are not comparable."""
    task: str = ""
    """What the model is for; empty for a foreign file."""
    level: Level = Level.MODEL

    def __str__(self) -> str:
        precision = "" if self.precision is None else f" {self.precision.value}"
        level = "" if self.level is Level.MODEL else f" ({self.level.value})"
        return f"{self.model}{precision} on {self.provider}, batch {self.batch}{level}"


@dataclass(frozen=True, slots=True)
class ProcessRun:
    """Raw values of one process of a candidate; its memory layout, for one, does not change until it ends.

    Attributes:
        warm_up_ns: Latencies before the rounds.
        latencies_ns: Latencies by round; round k of all candidates was timed at about the same time.
        device_ns: The same calls by the device's own clock; empty where there is none.
    """

    warm_up_ns: tuple[int, ...]
    latencies_ns: tuple[tuple[int, ...], ...]
    device_ns: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.latencies_ns or not all(self.latencies_ns):
            raise ValueError("a process needs at least one round, and each round a call")
        if len(set(map(len, self.latencies_ns))) > 1:
            raise ValueError("the rounds of a process must have equally many calls")
        if min(values := (*self.warm_up_ns, *chain(*self.latencies_ns))) <= 0 or max(values) >= 2**63:
            raise ValueError("a latency must be above 0 ns and below 2**63 ns")


@dataclass(frozen=True, slots=True)
class Measurement:
    """All latencies of one candidate, by process.

    Percentiles are nearest-rank over all calls: each is a latency that really occurred.
    """

    description: Description
    processes: tuple[ProcessRun, ...]

    def __post_init__(self) -> None:
        if not self.processes:
            raise ValueError("a measurement needs at least one process")

    @property
    def rounds(self) -> tuple[int, ...]:
        """Numbers of rounds by process."""
        return tuple(len(run.latencies_ns) for run in self.processes)

    @property
    def rounds_ns(self) -> tuple[tuple[int, ...], ...]:
        """The latencies of each round of all processes."""
        return tuple(chain.from_iterable(run.latencies_ns for run in self.processes))

    @property
    def calls_ns(self) -> tuple[int, ...]:
        """The latencies of all calls, in the order of the calls."""
        return tuple(chain.from_iterable(self.rounds_ns))

    def percentile_ms(self, percent: int) -> float:
        """Smallest latency that at least `percent` of the calls did not exceed, in ms."""
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
        """Throughput: images over the sum of all latencies."""
        calls = self.calls_ns
        return self.description.batch * len(calls) / (sum(calls) / 1e9)

    @property
    def spread(self) -> float:
        """Ratio of p90 to p50: 1 if all calls take the same time, more on a busy machine."""
        return self.p90_ms / self.p50_ms
