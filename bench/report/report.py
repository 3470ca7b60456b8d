"""`BenchReport`: measurements with everything that is needed to judge them, as versioned JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mien.bench.accuracy.accuracy import Accuracy
from mien.bench.parity.parity import ParityGate
from mien.bench.report.serde import decode, encode
from mien.bench.timing.environment import Environment, environment_warnings
from mien.bench.timing.measurement import Description, Measurement
from mien.bench.timing.sensors import Reading, sensor_warnings
from mien.bench.timing.speedup import MIN_ROUNDS, ONE_PROCESS, Ratio, measurement_warnings, paired_ratio
from mien.bench.worker.process import SYSTEM_ALLOCATOR, FailureKind
from mien.runtime.errors import InputError

FORMAT = "mien-bench"
VERSION = 5
SUMMARY = ("p50_ms", "p90_ms", "p99_ms", "max_ms", "images_per_second", "spread")
MAX_OVERHEAD_US = 50.0
MAX_OVERHEAD_SHARE = 0.05
"""What a runner's own lines may add to a call: the larger of the two."""
OTHERS_CORES = 0.1
"""Cores that other processes may use before it is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateMetadata:
    """What is known of a candidate besides its latency; None where it is not.

    file: as it was named, ``shipped`` for the package's own. import_ms: of mien and what runs the model, from the
    interpreter's first line on; load_ms: of the file; first_ms: of the first call, each the median of the processes.
    The files lay in the system's cache.
    peak_mib: of the process, libraries included. device_mib: by which the GPU's used memory grew when it was opened and
    called. nodes_on_provider: of the graph's `nodes`. overhead_us: what the runner's own lines add to bare_us, the
    session called alone. power_w: while it runs without a pause, of the whole board or GPU; energy_mj: of that, for a
    call. inputs: where they come from, if not from where a model of mien takes them. preemptions: how often the system
    took a core away from it in its rounds. failure: how its process failed after the rounds; empty: it did not.
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
        """Whether the runner adds no more than it may; None where it was not measured."""
        if self.overhead_us is None or self.bare_us is None:
            return None
        return self.overhead_us <= max(MAX_OVERHEAD_US, MAX_OVERHEAD_SHARE * self.bare_us)

    def warnings(self) -> list[str]:
        """What is to be said of a candidate, in plain words."""
        found = [f"its process failed after the rounds: {self.failure}"] if self.failure else []
        if self.nodes is not None and self.nodes_on_provider is not None and self.nodes_on_provider < self.nodes:
            found.append(f"{self.nodes - self.nodes_on_provider} of its {self.nodes} nodes run elsewhere")
        if self.overhead_is_small is False:
            found.append(f"mien's own lines add {self.overhead_us:.0f} µs to a call of {self.bare_us:.0f} µs")
        return found


NO_METADATA = CandidateMetadata()


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate. There is no way to make a row with a ratio whose parity is missing or false.

    baseline: name of the row it is compared with. withheld: why there is no ratio to it.
    warnings: see `measurement_warnings`.
    stages_ns: of a pipeline, durations by stage in the order in which they were taken.
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
            raise ValueError(f"{self.name}: no ratio without parity, and it is {found}")
        if self.baseline is None and (self.ratio is not None or self.withheld is not None):
            raise ValueError(f"{self.name}: a ratio to nothing")
        if self.baseline is not None and (self.ratio is None) == (self.withheld is None):
            raise ValueError(f"{self.name}: wanted either a ratio or the reason why there is none")

    @property
    def name(self) -> str:
        """Name of the candidate."""
        return self.measurement.description.name


@dataclass(frozen=True, slots=True)
class FailedCandidate:
    """A candidate that could not be measured to the end, and why."""

    description: Description
    failure: FailureKind
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConditions:
    """How a run went.

    rounds: that were wanted, of all processes together. processes: of each candidate, one after the other.
    priming_calls: untimed calls before each turn. allocator: of the candidates' memory. others_cores: that other
    processes used during the rounds; stolen_cores: that a hypervisor gave away. readings: before the rounds of each
    process, and behind each.
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
        """What was wanted; clock, heat and load during the rounds, as far as they are known."""
        wanted = f"{self.rounds} rounds of {self.calls_per_round} calls in {self.processes} process(es)"
        how = f"{wanted}; memory: {self.allocator}."
        told = []
        for name, unit in (("clock_mhz", "MHz"), ("gpu_clock_mhz", "MHz on the GPU"), ("temperature_c", "°C")):
            known = [value for value in (getattr(r, name) for r in self.readings) if value is not None]
            if known:
                told.append(f"{min(known):.0f} to {max(known):.0f} {unit}")
        if self.others_cores is not None:
            told.append(f"{self.others_cores:.2f} core(s) used by others")
        return f"{how} During the rounds: {', '.join(told)}." if told else how

    def warnings(self) -> list[str]:
        """What the run itself gives to doubt, in plain words."""
        found = sensor_warnings(self.readings)
        if self.processes == 1:
            found.append(ONE_PROCESS)
        if self.interrupted:
            found.append("the run was interrupted: rounds, accuracy or other figures may be missing")
        if self.others_cores is not None and self.others_cores > OTHERS_CORES:
            found.append(f"other processes used {self.others_cores:.2f} core(s) during the rounds")
        if self.stolen_cores is not None and self.stolen_cores > OTHERS_CORES:
            found.append(f"the hypervisor gave {self.stolen_cores:.2f} core(s) to others during the rounds")
        return found


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What one run of the benchmark found. warnings: what concerns all rows. failed: what could not be measured."""

    environment: Environment
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()
    failed: tuple[FailedCandidate, ...] = ()
    conditions: RunConditions | None = None

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows] + [one.description.name for one in self.failed]
        if len(set(names)) < len(names):
            raise ValueError(f"two rows have the same name: {', '.join(names)}")
        unknown = {row.baseline for row in self.rows} - {None, *(row.name for row in self.rows)}
        if unknown:
            raise ValueError(f"compared with what was not measured: {', '.join(sorted(map(str, unknown)))}")

    def to_json(self) -> str:
        """Serialise with all raw values; `summary` and `passed` are for readers and not read back."""
        whole = {"format": FORMAT, "version": VERSION} | encode(self)
        for row, written in zip(self.rows, whole["rows"], strict=True):
            written["summary"] = {name: getattr(row.measurement, name) for name in SUMMARY}
            written["passed"] = None if row.parity is None else bool(row.parity)
        return json.dumps(whole, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, origin: str) -> BenchReport:
        """Parse what `to_json` wrote; `origin` names the file in an error.

        Raises:
            InputError: no report of ours, one of another version, a missing or malformed value, or a forbidden ratio.
        """
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{origin} is not JSON ({error}); wanted one from mien bench --json") from error
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise InputError(f"{origin} is not a benchmark report; wanted a file from mien bench --json")
        version = raw.get("version")
        if type(version) is int and version > VERSION:
            raise InputError(f"{origin}: report version {version}, this mien reads {VERSION}; upgrade mien")
        if version != VERSION or type(version) is not int:
            raise InputError(f"{origin}: wanted report version {VERSION}, found {version!r}; measure again")
        try:
            report: BenchReport = decode(cls, raw)
            return report
        except KeyError as error:
            raise InputError(f"{origin}: its report lacks {error}; measure again") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{origin}: its report cannot be read ({error}); measure again") from error


def build_report(
    rows: Sequence[Row],
    environment: Environment,
    *,
    baseline_of: Mapping[str, str],
    failed: Sequence[FailedCandidate] = (),
    conditions: RunConditions | None = None,
) -> BenchReport:
    """Compare each row named in `baseline_of` with its baseline, where its parity allows it.

    Args:
        rows: what was measured, without baselines.
        environment: the machine before the run, so that its load is not the benchmark's own.
        baseline_of: name of the baseline by name of the row. A baseline may be among the `failed`: the row then has no
            ratio, and a warning says so.
        failed: what could not be measured.
        conditions: how the run went.

    Raises:
        InputError: a name that was not measured or was measured twice, or a baseline from another run or batch.
    """
    by_name = {row.name: row for row in rows}
    gone = {one.description.name for one in failed}
    unknown = {*baseline_of, *baseline_of.values()} - set(by_name) - gone
    if unknown or len(by_name) < len(rows):
        raise InputError(
            f"not measured: {', '.join(sorted(unknown)) or 'none'}; measured: {', '.join(row.name for row in rows)}"
        )
    compared = []
    for row in rows:
        baseline = baseline_of.get(row.name)
        warnings = [*measurement_warnings(row.measurement), *row.metadata.warnings()]
        if baseline in gone:
            warnings.append(f"no ratio: its baseline {baseline} failed")
            baseline = None
        withheld = None if baseline is None else _obstacle(row.measurement, row.parity)
        ratio = None
        if baseline is not None and withheld is None:
            ratio = paired_ratio(by_name[baseline].measurement, row.measurement)
        compared.append(replace(row, baseline=baseline, ratio=ratio, withheld=withheld, warnings=tuple(warnings)))
    warnings_of_all = [*environment_warnings(environment), *([] if conditions is None else conditions.warnings())]
    return BenchReport(environment, tuple(compared), tuple(warnings_of_all), tuple(failed), conditions)


def _obstacle(measurement: Measurement, parity: ParityGate | None) -> str | None:
    if parity is None:
        return "its parity was not checked"
    if not parity:
        return f"its parity is false ({parity})"
    rounds = len(measurement.rounds_ns)
    return None if rounds >= MIN_ROUNDS else f"{rounds} round(s), an interval needs {MIN_ROUNDS}"
