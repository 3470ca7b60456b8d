"""`BenchReport`: measurements with everything needed to judge them, serialized as versioned JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...runtime.errors import InputError
from ...runtime.wording import counted
from ..accuracy.accuracy import Accuracy
from ..parity.parity import ParityGate
from ..timing.environment import Environment
from ..timing.measurement import Description, Measurement
from ..timing.sensors import Reading, sensor_warnings
from ..timing.speedup import ONE_PROCESS, Ratio
from ..worker.process import SYSTEM_ALLOCATOR, FailureKind
from .serde import decode, encode

FORMAT = "mien-bench"
VERSION = 5
SUMMARY = ("p50_ms", "p90_ms", "p99_ms", "max_ms", "images_per_second", "spread")
MAX_OVERHEAD_US = 50.0
MAX_OVERHEAD_SHARE = 0.05
"""A runner's own code may add the larger of these to a call."""
OTHERS_CORES = 0.1
"""Number of cores that other processes may use without a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateMetadata:
    """Facts about a candidate besides its latency; None where unknown.

    Attributes:
        file: Path as given by the user; ``shipped`` for the package's own models.
        size_bytes: Size of the model file.
        import_ms: Time to import mien and the runtime library. Like the next two, this is the median over processes,
            with all files in the page cache.
        load_ms: Time to load the model.
        first_ms: Time of the first call.
        peak_mib: Peak memory of the process, including its libraries.
        device_mib: GPU memory taken up by opening and calling the candidate.
        nodes: Number of nodes in the graph.
        nodes_on_provider: Number of nodes that run on the provider.
        overhead_us: Time that the runner's own code adds to a call.
        bare_us: Time of the bare call of the session.
        power_w: Mean power of the whole board or GPU while the candidate runs continuously.
        energy_mj: Energy per call at that power.
        inputs: Origin of the inputs of a pipeline or foreign model.
        preemptions: Number of times that the operating system preempted the process during its rounds.
        failure: How its process failed after the rounds; empty if it did not.
    """

    file: str = ""
    size_bytes: int | None = None
    import_ms: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    peak_mib: float | None = None
    device_mib: float | None = None
    nodes: int | None = None
    nodes_on_provider: int | None = None
    overhead_us: float | None = None
    bare_us: float | None = None
    power_w: float | None = None
    energy_mj: float | None = None
    inputs: str = ""
    preemptions: int | None = None
    failure: str = ""

    @property
    def overhead_is_small(self) -> bool | None:
        """True if the runner's overhead is within its limit; None if it was not measured."""
        if self.overhead_us is None or self.bare_us is None:
            return None
        return self.overhead_us <= max(MAX_OVERHEAD_US, MAX_OVERHEAD_SHARE * self.bare_us)

    def warnings(self) -> list[str]:
        """List reasons to doubt the candidate's figures."""
        found = [f"its process failed after the rounds: {self.failure}"] if self.failure else []
        if self.nodes is not None and self.nodes_on_provider is not None and self.nodes_on_provider < self.nodes:
            found.append(f"{self.nodes - self.nodes_on_provider} of its {self.nodes} nodes run elsewhere")
        if self.overhead_is_small is False:
            found.append(f"mien's own code adds {self.overhead_us:.0f} µs to a call of {self.bare_us:.0f} µs")
        return found


NO_METADATA = CandidateMetadata()


@dataclass(frozen=True, slots=True)
class Row:
    """Results of one candidate. A ratio without parity raises ValueError.

    Attributes:
        measurement: Its latencies.
        baseline: Name of the row that it is compared with.
        ratio: Its speed relative to the baseline.
        parity: Parity of its outputs with the baseline's.
        withheld: Why there is no ratio.
        warnings: Reasons to doubt the figures; see `measurement_warnings` and `CandidateMetadata.warnings`.
        metadata: Facts besides its latency.
        accuracy: Accuracy on labelled data.
        stages_ns: Durations of each pipeline stage, in frame order.
    """

    measurement: Measurement
    baseline: str | None = None
    ratio: Ratio | None = None
    parity: ParityGate | None = None
    withheld: str | None = None
    warnings: tuple[str, ...] = ()
    metadata: CandidateMetadata = NO_METADATA
    accuracy: Accuracy | None = None
    stages_ns: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ratio is not None and not self.parity:
            found = "missing" if self.parity is None else f"false: {self.parity}"
            raise ValueError(f"{self.name}: a ratio needs parity, which is {found}")
        if self.baseline is None and (self.ratio is not None or self.withheld is not None):
            raise ValueError(f"{self.name}: a ratio needs a baseline")
        if self.baseline is not None and (self.ratio is None) == (self.withheld is None):
            raise ValueError(f"{self.name}: expected either a ratio or the reason why it is withheld")

    @property
    def name(self) -> str:
        """Name of the candidate."""
        return self.measurement.description.name


@dataclass(frozen=True, slots=True)
class FailedCandidate:
    """A candidate that could not be measured, and why."""

    description: Description
    failure: FailureKind
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConditions:
    """Conditions of a run.

    Attributes:
        rounds: Requested rounds, over all processes.
        calls_per_round: Calls of each candidate per round.
        processes: Number of successive processes per candidate.
        priming_calls: Untimed calls before a candidate's calls of each round.
        allocator: Memory allocator of the candidates.
        interrupted: Whether Ctrl-C stopped the run.
        others_cores: Mean number of cores that other processes used during the rounds.
        stolen_cores: Mean number of cores that the hypervisor gave to other guests during the rounds.
        readings: Sensor readings before the rounds of each process and after each round.
    """

    rounds: int
    calls_per_round: int
    processes: int = 1
    priming_calls: int = 0
    allocator: str = SYSTEM_ALLOCATOR
    interrupted: bool = False
    others_cores: float | None = None
    stolen_cores: float | None = None
    readings: tuple[Reading, ...] = ()

    def __str__(self) -> str:
        rounds, calls = counted(self.rounds, "round"), counted(self.calls_per_round, "call")
        processes = counted(self.processes, "process", "processes")
        how = f"{rounds} of {calls} in {processes}; memory: {self.allocator}."
        observed = []
        for name, unit in (("clock_mhz", "MHz"), ("gpu_clock_mhz", "MHz on the GPU"), ("temperature_c", "°C")):
            known = [f"{value:.0f}" for value in (getattr(r, name) for r in self.readings) if value is not None]
            if known:
                ends = dict.fromkeys([min(known, key=int), max(known, key=int)])
                observed.append(f"{' to '.join(ends)} {unit}")
        if self.others_cores is not None:
            observed.append(f"{self.others_cores:.2f} cores used by others")
        return f"{how} During the rounds: {', '.join(observed)}." if observed else how

    def warnings(self) -> list[str]:
        """List reasons to doubt the whole run."""
        found = sensor_warnings(self.readings)
        if self.processes == 1:
            found.append(ONE_PROCESS)
        if self.interrupted:
            found.append("the run was interrupted: rounds, accuracy or other figures may be missing")
        if self.others_cores is not None and self.others_cores > OTHERS_CORES:
            found.append(f"other processes used {self.others_cores:.2f} cores during the rounds")
        if self.stolen_cores is not None and self.stolen_cores > OTHERS_CORES:
            found.append(f"the hypervisor gave {self.stolen_cores:.2f} cores to others during the rounds")
        return found


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Results of a benchmark run.

    Attributes:
        environment: The machine and its software.
        rows: The measured candidates.
        warnings: Warnings that concern all rows.
        failed: Candidates that could not be measured.
        conditions: Conditions of the run.
    """

    environment: Environment
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()
    failed: tuple[FailedCandidate, ...] = ()
    conditions: RunConditions | None = None

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows] + [one.description.name for one in self.failed]
        if len(set(names)) < len(names):
            raise ValueError(f"two rows have the same name: {', '.join(names)}")
        rounds = {row.name: row.measurement.rounds for row in self.rows}
        for row in self.rows:
            if row.baseline is not None and row.baseline not in rounds:
                raise ValueError(f"a baseline that was not measured: {row.baseline}")
            if row.ratio is not None and rounds[row.name] != rounds[str(row.baseline)]:
                raise ValueError(f"{row.name} and its baseline have different rounds")

    def to_json(self) -> str:
        """Serialize all raw values. ``summary`` and ``passed`` are for human readers; `from_json` ignores them."""
        whole = {"format": FORMAT, "version": VERSION} | encode(self)
        for row, written in zip(self.rows, whole["rows"], strict=True):
            written["summary"] = {name: getattr(row.measurement, name) for name in SUMMARY}
            written["passed"] = None if row.parity is None else bool(row.parity)
        return json.dumps(whole, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, origin: str) -> BenchReport:
        """Parse the output of `to_json`.

        Args:
            text: The JSON.
            origin: Name of its file, for error messages.

        Raises:
            InputError: The text is not a report of this version, or a value is missing or invalid.
        """
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{origin} is not JSON ({error}); expected a file from mien bench --json") from error
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise InputError(f"{origin} is not a benchmark report; expected a file from mien bench --json")
        version = raw.get("version")
        if type(version) is int and version > VERSION:
            raise InputError(f"{origin} has report version {version}, but this mien reads {VERSION}; upgrade mien")
        if version != VERSION or type(version) is not int:
            raise InputError(f"{origin}: expected report version {VERSION}; found {version!r}; measure again")
        try:
            report: BenchReport = decode(cls, raw)
            return report
        except KeyError as error:
            raise InputError(f"{origin}: the report has no {error}; measure again") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{origin}: the report cannot be read ({error}); measure again") from error
