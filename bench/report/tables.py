"""A report as tables: Markdown that is also read on a terminal, and CSV."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import fields

from mien.bench.report.report import SUMMARY, BenchReport, CandidateMetadata, FailedCandidate, Row
from mien.bench.timing.environment import Environment
from mien.bench.timing.measurement import Description, Level
from mien.runtime.values import percentile

NONE = "–"


def to_markdown(report: BenchReport) -> str:
    """Tabulate the rows: first what decides, then the rest; machine, warnings and what is withheld stand below."""
    tables = [_first_table(report), _second_table(report)]
    stages = _stage_table(report)
    notes = [f"Warning: {text}." for text in report.warnings]
    notes += [f"Failed: {one.description}: {one.failure.value} ({one.reason})." for one in report.failed]
    for row in report.rows:
        about = row.measurement.description
        notes += [f"No ratio for {about}: {row.withheld}."] if row.withheld is not None else []
        notes += [f"Warning, {about}: {'; '.join(row.warnings)}."] if row.warnings else []
    notes += [f"{row.measurement.description}: {row.metadata.inputs}." for row in report.rows if row.metadata.inputs]
    conditions = "" if report.conditions is None else str(report.conditions)
    parts = [*tables, *([stages] if stages else []), machine(report.environment), *([conditions] if conditions else [])]
    return "\n\n".join([*parts, *(["\n".join(f"- {note}" for note in notes)] if notes else [])]) + "\n"


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> str:
    """A Markdown table whose columns stand below each other; the first `words` columns are text, the others numbers."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(3, *(_width(row[i]) for row in cells)) for i in range(len(head))]
    rule = ["-" * w if i < words else "-" * (w - 1) + ":" for i, w in enumerate(widths)]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell + " " * (w - _width(cell)) if i < words else " " * (w - _width(cell)) + cell
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        return "| " + " | ".join(padded) + " |"

    return "\n".join([line(cells[0]), line(rule), *(line(row) for row in cells[1:])])


def ratio_heading(report: BenchReport) -> str:
    """Over the column of ratios: to what."""
    used = {row.baseline for row in report.rows}
    against = [row.measurement.description.provider for row in report.rows if row.name in used]
    other = "eager" if against and all(p.startswith("eager") for p in against) else "baseline"
    return f"ratio to {other} (95 %)"


def ratio_cell(row: Row, report: BenchReport) -> str:
    """The ratio, or why there is none."""
    if row.ratio is not None:
        return str(row.ratio)
    if row.withheld is not None:
        return "withheld"
    return "baseline" if row.name in {r.baseline for r in report.rows} else NONE


def parity_cell(row: Row) -> str:
    """Whether parity holds, and how far the part deviates at most that fails, else the task's own."""
    if row.parity is None:
        return NONE
    part = next((p for p in row.parity.parts if not p), next(iter(row.parity.parts), None))
    word = "yes" if row.parity else "NO"
    return word if part is None else f"{word}, {part.max:.2g} {part.unit.value}"


def _first_table(report: BenchReport) -> str:
    accuracies = any(row.accuracy is not None for row in report.rows)
    head = ["model", "precision", "provider", "batch", "p50 ms", "p90 ms", "p99 ms", "images/s"]
    head += [ratio_heading(report), "parity", *(["accuracy"] if accuracies else [])]
    rows = []
    for row in report.rows:
        m, d = row.measurement, row.measurement.description
        times = [f"{ms:.3f}" for ms in (m.p50_ms, m.p90_ms, m.p99_ms)]
        cells = [model_cell(row), _precision_cell(d), d.provider, str(d.batch), *times, f"{m.images_per_second:.1f}"]
        cells += [ratio_cell(row, report), parity_cell(row)]
        rows.append(cells + ([accuracy_cell(row)] if accuracies else []))
    rows += [_failed_cells(one, len(head)) for one in report.failed]
    return aligned(head, rows, words=3)


def model_cell(row: Row) -> str:
    """The model, and the level where it is not the model alone."""
    d = row.measurement.description
    return d.model if d.level in (Level.MODEL, Level.PIPELINE) else f"{d.model}, {d.level.value}"


def _precision_cell(about: Description) -> str:
    return NONE if about.precision is None else about.precision.value


def accuracy_cell(row: Row) -> str:
    """The task's figure with its name."""
    return NONE if row.accuracy is None else f"{row.accuracy.metric.value} {row.accuracy}"


def _failed_cells(failed: FailedCandidate, columns: int) -> list[str]:
    d = failed.description
    cells = [d.model, _precision_cell(d), d.provider, str(d.batch), failed.failure.value]
    return cells + [NONE] * (columns - len(cells))


MORE = (
    "threads",
    "calls",
    "warm-up",
    "max ms",
    "nodes",
    "MB",
    "peak MiB",
    "import ms",
    "load ms",
    "first ms",
    "mien adds µs",
)


def more_cells(row: Row) -> list[str]:
    """Under `MORE`."""
    m, d, f = row.measurement, row.measurement.description, row.metadata
    cells = [
        str(d.threads or "all"),
        str(len(m.calls_ns)),
        str(sum(len(run.warm_up_ns) for run in m.processes)),
        f"{m.max_ms:.3f}",
    ]
    cells += [nodes_cell(f), _number(None if f.size_bytes is None else f.size_bytes / 1e6, 2)]
    cells += [_number(value, 0) for value in (f.peak_mib, f.import_ms, f.load_ms)]
    return [*cells, _number(f.first_ms, 1), _number(f.overhead_us, 1)]


def nodes_cell(metadata: CandidateMetadata) -> str:
    """How many nodes of how many the provider runs."""
    return NONE if metadata.nodes is None else f"{metadata.nodes_on_provider} of {metadata.nodes}"


def _second_table(report: BenchReport) -> str:
    head = ["model", "precision", "provider", *MORE]
    powered = any(row.metadata.power_w is not None for row in report.rows)
    rows = []
    for row in report.rows:
        d, f = row.measurement.description, row.metadata
        power = [_number(f.power_w, 1), _number(f.energy_mj, 2)] if powered else []
        rows.append([model_cell(row), _precision_cell(d), d.provider, *more_cells(row), *power])
    return aligned(head + (["W", "mJ a call"] if powered else []), rows, words=3)


def _stage_table(report: BenchReport) -> str:
    rows = []
    for row in report.rows:
        for stage, durations in row.stages_ns.items():
            times = [f"{percentile(durations, p) / 1e6:.3f}" for p in (50, 90, 99)]
            rows.append([row.measurement.description.provider, stage, *times, str(len(durations))])
    if not rows:
        return ""
    return aligned(["pipeline on", "stage", "p50 ms", "p90 ms", "p99 ms", "times"], rows, words=2)


def to_csv(report: BenchReport) -> str:
    """A line a row: what was measured, its figures, and the ratio with its interval; empty where there is none."""
    about = ("name", "model", "task", "level", "provider", "batch", "threads")
    metadata = [f.name for f in fields(CandidateMetadata) if f.name not in ("inputs", "failure")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [*about, "precision", "calls", *SUMMARY, "ratio", "ratio_low", "ratio_high", "parity", "metric", "accuracy"]
        + [*metadata, "failure"]
    )
    for row in report.rows:
        m, d = row.measurement, row.measurement.description
        ratio = ("", "", "") if row.ratio is None else (row.ratio.value, row.ratio.low, row.ratio.high)
        parity = "" if row.parity is None else bool(row.parity)
        accuracy = ("", "") if row.accuracy is None else (row.accuracy.metric.value, row.accuracy.value)
        figures = [getattr(m, name) for name in SUMMARY]
        known = ["" if (value := getattr(row.metadata, name)) is None else value for name in metadata]
        precision = "" if d.precision is None else d.precision.value
        head = [getattr(d, name) for name in about if name != "level"]
        head.insert(about.index("level"), d.level.value)
        writer.writerow(
            [*head, precision, len(m.calls_ns), *figures, *ratio, parity, *accuracy, *known, row.metadata.failure]
        )
    columns = len(about) + 2 + len(SUMMARY) + 6 + len(metadata)
    for one in report.failed:
        d = one.description
        head = [d.name, d.model, d.task, d.level.value, d.provider, d.batch, d.threads]
        writer.writerow([*head, *[""] * (columns - len(head)), f"{one.failure.value}: {one.reason}"])
    return text.getvalue()


def machine(e: Environment) -> str:
    """One line for people."""
    memory = "" if e.memory_gib is None else f", {e.memory_gib:g} GiB"
    clock = "" if e.clock_mhz is None else f", {e.clock_mhz:.0f} MHz"
    governor = "" if e.governor is None else f" ({e.governor})"
    load = "" if e.load_average is None else f", load {e.load_average[0]:.2f}"
    gpu = "" if e.gpu is None else f", {e.gpu}"
    mode = "" if e.power_mode is None else f", power mode {e.power_mode}"
    packages = ", ".join(f"{name} {number}" for name, number in e.packages.items())
    cores = f"{e.logical_cores} core(s){memory}{clock}{governor}{gpu}{mode}{load}"
    return f"{e.cpu}, {cores}; {e.os} {e.machine}, Python {e.python}, {packages}; {e.utc}"


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _width(text: str) -> int:
    """Columns of a terminal: marks that combine take none."""
    return sum(unicodedata.combining(c) == 0 for c in text)
