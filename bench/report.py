"""`BenchReport`: measurements with everything that is needed to judge them, as JSON and as a Markdown table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from math import isfinite, nan
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

from ..runtime.errors import InputError
from .comparison import MIN_ROUNDS, Ratio, instability, paired_ratio
from .environment import Environment, disturbances
from .measure import Measurement
from .parity import ParityGate

FORMAT = "mien-bench"
VERSION = 2
"""2: the digest of the inputs."""
SUMMARY = ("p50_ms", "p90_ms", "p99_ms", "max_ms", "images_per_second", "spread")


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate. There is no way to make a row with a ratio whose parity is missing or false.

    baseline: name of the row it is compared with. withheld: why there is no ratio to it. warnings: see `instability`.
    """

    measurement: Measurement
    baseline: str | None = None
    ratio: Ratio | None = None
    parity: ParityGate | None = None
    withheld: str | None = None
    warnings: tuple[str, ...] = ()

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
class BenchReport:
    """What one run of the benchmark found. warnings: what concerns all rows."""

    environment: Environment
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError(f"two rows have the same name: {', '.join(names)}")
        unknown = {row.baseline for row in self.rows} - {None, *names}
        if unknown:
            raise ValueError(f"compared with what was not measured: {', '.join(sorted(map(str, unknown)))}")

    def to_json(self) -> str:
        """Serialise with all raw values; `summary` and `passed` are for readers and not read back."""
        whole = {"format": FORMAT, "version": VERSION} | _encode(self)
        for row, written in zip(self.rows, whole["rows"], strict=True):
            written["summary"] = {name: getattr(row.measurement, name) for name in SUMMARY}
            written["passed"] = None if row.parity is None else bool(row.parity)
        return json.dumps(whole, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, origin: str) -> BenchReport:
        """Parse what `to_json` wrote; `origin` names the file in an error.

        Raises:
            InputError: no report of ours, one of a future version, a missing or malformed value, or a forbidden ratio.
        """
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise InputError(f"{origin} is not JSON ({error}); wanted one from mien bench --json") from error
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise InputError(f"{origin} is not a benchmark report; wanted a file from mien bench --json")
        version = raw.get("version")
        if type(version) is int and version > VERSION:
            raise InputError(f"{origin}: report version {version}, this mien reads {VERSION}; upgrade mien")
        if version != VERSION:
            raise InputError(f"{origin}: wanted report version {VERSION}, found {version!r}; measure again")
        try:
            report: BenchReport = _decode(cls, raw)
            return report
        except KeyError as error:
            raise InputError(f"{origin}: its report lacks {error}; measure again") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{origin}: its report cannot be read ({error}); measure again") from error

    def to_csv(self) -> str:
        """A line a row: what was measured, its figures, and the ratio with its interval; empty where there is none."""
        about = ("name", "model", "provider", "batch", "threads")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*about, "precision", "calls", *SUMMARY, "ratio", "ratio_low", "ratio_high", "parity"])
        for row in self.rows:
            m, d = row.measurement, row.measurement.description
            ratio = ("", "", "") if row.ratio is None else (row.ratio.value, row.ratio.low, row.ratio.high)
            parity = "" if row.parity is None else bool(row.parity)
            figures = [getattr(m, name) for name in SUMMARY]
            head = [getattr(d, name) for name in about]
            writer.writerow([*head, d.precision.value, len(m.calls_ns), *figures, *ratio, parity])
        return text.getvalue()

    def to_markdown(self) -> str:
        """Tabulate the rows; machine, warnings and the reasons for what is withheld stand below."""
        used = {row.baseline for row in self.rows}
        against = [row.measurement.description.provider for row in self.rows if row.name in used]
        other = "eager" if against and all(p.startswith("eager") for p in against) else "baseline"
        head = ["model", "precision", "provider", "batch", "threads", "calls", "warm-up"]
        head += ["p50 ms", "p90 ms", "p99 ms", "max ms", "images/s", f"ratio to {other} (95 %)", "parity"]
        table = [head, ["---"] * 3 + ["--:"] * 10 + ["---"]]
        table += [_cells(row, is_baseline=row.name in used) for row in self.rows]
        lines = ["| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |" for cells in table]
        lines += ["", machine(self.environment)]
        notes = [f"Warning: {text}." for text in self.warnings]
        for row in self.rows:
            about = row.measurement.description
            notes += [f"No ratio for {about}: {row.withheld}."] if row.withheld is not None else []
            notes += [f"Warning, {about}: {text}." for text in row.warnings]
        return "\n".join([*lines, *([""] if notes else []), *(f"- {note}" for note in notes)]) + "\n"


def build_report(
    measurements: Sequence[Measurement],
    environment: Environment,
    *,
    baseline_of: Mapping[str, str],
    parities: Mapping[str, ParityGate],
) -> BenchReport:
    """Compare each measurement named in `baseline_of` with its baseline, where its parity allows it.

    environment: described before the run, so that its load is not the benchmark's own.

    Raises:
        InputError: a name that was not measured or was measured twice, or a baseline from another run or batch.
    """
    by_name = {m.description.name: m for m in measurements}
    unknown = {*baseline_of, *baseline_of.values(), *parities} - set(by_name)
    if unknown or len(by_name) < len(measurements):
        raise InputError(
            f"not measured: {', '.join(sorted(unknown)) or 'none'}; "
            f"measured: {', '.join(m.description.name for m in measurements)}"
        )
    rows = []
    for name, measurement in by_name.items():
        baseline, parity = baseline_of.get(name), parities.get(name)
        withheld = None if baseline is None else _obstacle(measurement, parity)
        allowed = baseline is not None and withheld is None
        ratio = paired_ratio(by_name[str(baseline)], measurement) if allowed else None
        rows.append(Row(measurement, baseline, ratio, parity, withheld, tuple(instability(measurement))))
    return BenchReport(environment, tuple(rows), tuple(disturbances(environment)))


def _obstacle(measurement: Measurement, parity: ParityGate | None) -> str | None:
    if parity is None:
        return "its parity was not checked"
    if not parity:
        return f"its parity is false ({parity})"
    rounds = len(measurement.latencies_ns)
    return None if rounds >= MIN_ROUNDS else f"{rounds} round(s), an interval needs {MIN_ROUNDS}"


def _cells(row: Row, *, is_baseline: bool) -> list[str]:
    m, d = row.measurement, row.measurement.description
    times = [f"{ms:.3f}" for ms in (m.p50_ms, m.p90_ms, m.p99_ms, m.max_ms)]
    ratio = "withheld" if row.withheld is not None else "baseline" if is_baseline else "–"
    if row.ratio is not None:
        ratio = str(row.ratio)
    parity = "–" if row.parity is None else f"{'yes' if row.parity else 'NO'}: {row.parity}"
    counts = [str(d.batch), str(d.threads or "all"), str(len(m.calls_ns)), str(len(m.warm_up_ns))]
    return [
        d.model,
        d.precision.value,
        d.provider,
        *counts,
        *times,
        f"{m.images_per_second:.1f}",
        ratio,
        parity,
    ]


def machine(e: Environment) -> str:
    """One line for people."""
    memory = "" if e.memory_gib is None else f", {e.memory_gib:g} GiB"
    clock = "" if e.clock_mhz is None else f", {e.clock_mhz:.0f} MHz"
    governor = "" if e.governor is None else f" ({e.governor})"
    load = "" if e.load_average is None else f", load {e.load_average[0]:.2f}"
    packages = ", ".join(f"{name} {number}" for name, number in e.packages.items())
    cores = f"{e.logical_cores} core(s){memory}{clock}{governor}{load}"
    return f"{e.cpu}, {cores}; {e.os} {e.machine}, Python {e.python}, {packages}; {e.utc}"


def _encode(value: Any) -> Any:
    """Dataclasses to what JSON knows. It knows no NaN and no infinity: both become null."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {f.name: _encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return None if isinstance(value, float) and not isfinite(value) else value


def _decode(kind: Any, raw: Any) -> Any:
    """Inverse of `_encode` for a type as annotated, and strict: no number is read from a text or cut to an integer."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:  # always "… | None" here
        return None if raw is None else _decode(inner[0], raw)
    if origin is tuple and isinstance(raw, list):
        kinds = inner[:1] * len(raw) if inner[-1] is Ellipsis else inner
        return tuple(_decode(k, item) for k, item in zip(kinds, raw, strict=True))
    if origin is Mapping and isinstance(raw, dict):
        return {key: _decode(inner[1], item) for key, item in raw.items()}
    if is_dataclass(kind) and isinstance(raw, dict):
        kinds_by_name = get_type_hints(kind)
        values = {f.name: _decode(kinds_by_name[f.name], raw[f.name]) for f in fields(kind)}
        return cast(type, kind)(**values)
    if origin is None and isinstance(kind, type):
        if issubclass(kind, Enum):
            return kind(raw)
        if kind is float and (raw is None or type(raw) is int):
            return nan if raw is None else float(raw)  # a deviation of NaN is never within its tolerance
        if type(raw) is kind:
            return raw
    raise TypeError(f"wanted {getattr(kind, '__name__', kind)}, found {str(raw)[:60]!r}")
