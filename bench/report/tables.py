"""A benchmark report as tables: Markdown that also reads well in a terminal, and CSV."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import fields

from ...runtime.values import percentile
from ...runtime.wording import counted
from ..timing.environment import Environment
from ..timing.measurement import Description, Level
from .report import SUMMARY, BenchReport, CandidateMetadata, Row
from .serde import encode

NONE = "–"
CSV_COLUMNS = (
    *("name", "model", "task", "level", "provider", "batch", "threads", "precision", "calls", *SUMMARY),
    *("ratio", "ratio_low", "ratio_high", "parity", "metric", "accuracy"),
    *(f.name for f in fields(CandidateMetadata) if f.name not in ("inputs", "failure")),
    "failure",
)
Table = tuple[list[str], list[list[str]]]
"""Headings and rows."""


def to_markdown(report: BenchReport) -> str:
    """Render a report as Markdown: its tables, then the machine, the conditions and the notes."""
    tables = [(latency_table(report), 3), (footprint_table(report), 3), (stage_table(report), 2)]
    parts = [aligned(*table, words=words) for table, words in tables if table[1] or words == 3]
    parts.append(machine(report.environment))
    if report.conditions is not None:
        parts.append(str(report.conditions))
    if texts := [*notes(report), *input_notes(report)]:
        parts.append("\n".join(f"- {text}." for text in texts))
    return "\n\n".join(parts) + "\n"


def notes(report: BenchReport) -> list[str]:
    """List the warnings, the failed candidates and the reasons for withheld ratios."""
    found = [f"Warning: {text}" for text in report.warnings]
    found += [f"Failed: {one.description}: {one.failure.value} ({one.reason})" for one in report.failed]
    for row in report.rows:
        about = row.measurement.description
        found += [f"No ratio for {about}: {row.withheld}"] if row.withheld is not None else []
        found += [f"Warning, {about}: {'; '.join(row.warnings)}"] if row.warnings else []
    return found


def input_notes(report: BenchReport) -> list[str]:
    """List the origin of the inputs of pipelines and foreign models."""
    return [f"{row.measurement.description}: {row.metadata.inputs}" for row in report.rows if row.metadata.inputs]


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> str:
    """Format a Markdown table with padded columns.

    Args:
        head: Headings.
        rows: Cells of each row.
        words: Number of leading text columns, which are left-aligned; the others are right-aligned.
    """
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


def _ratio_heading(report: BenchReport) -> str:
    used = {row.baseline for row in report.rows}
    against = [row.measurement.description.provider for row in report.rows if row.name in used]
    other = "eager" if against and all(p.startswith("eager") for p in against) else "baseline"
    return f"ratio to {other} (95 %)"


def _ratio_cell(row: Row, report: BenchReport) -> str:
    if row.ratio is not None:
        return str(row.ratio)
    if row.withheld is not None:
        return "withheld"
    return "baseline" if row.name in {r.baseline for r in report.rows} else NONE


def parity_cell(row: Row) -> str:
    """Return yes or NO for parity, with the maximum deviation of the first failed part, else of the first part."""
    if row.parity is None:
        return NONE
    part = next((p for p in row.parity.parts if not p), next(iter(row.parity.parts), None))
    word = "yes" if row.parity else "NO"
    return word if part is None else f"{word}, {part.max:.2g} {part.unit.value}"


def latency_table(report: BenchReport) -> Table:
    """Tabulate latency, ratio, parity and accuracy of each candidate, failed ones last."""
    with_accuracy = any(row.accuracy is not None for row in report.rows)
    head = ["model", "precision", "provider", "batch", "p50 ms", "p90 ms", "p99 ms", "images/s"]
    head += [_ratio_heading(report), "parity", *(["accuracy"] if with_accuracy else [])]
    rows = []
    for row in report.rows:
        m, d = row.measurement, row.measurement.description
        cells = [*_name_cells(d), str(d.batch), *(f"{ms:.3f}" for ms in (m.p50_ms, m.p90_ms, m.p99_ms))]
        cells += [f"{m.images_per_second:.1f}", _ratio_cell(row, report), parity_cell(row)]
        rows.append(cells + ([_accuracy_cell(row)] if with_accuracy else []))
    for one in report.failed:
        cells = [*_name_cells(one.description), str(one.description.batch), one.failure.value]
        rows.append(cells + [NONE] * (len(head) - len(cells)))
    return head, rows


def _name_cells(d: Description) -> list[str]:
    """Return the cells for model (with its level, unless it is the model alone), precision and provider."""
    model = d.model if d.level in (Level.MODEL, Level.PIPELINE) else f"{d.model}, {d.level.value}"
    return [model, NONE if d.precision is None else d.precision.value, d.provider]


def _accuracy_cell(row: Row) -> str:
    return NONE if row.accuracy is None else f"{row.accuracy.metric.value} {row.accuracy}"


def footprint_table(report: BenchReport) -> Table:
    """Tabulate call counts, memory, cold start, overhead and, where measured, power of each candidate."""
    with_power = any(row.metadata.power_w is not None for row in report.rows)
    head = ["model", "precision", "provider", "threads", "calls", "warm-up", "max ms", "nodes", "MB", "peak MiB"]
    head += ["import ms", "load ms", "first ms", "mien adds µs", *(["W", "mJ per call"] if with_power else [])]
    rows = []
    for row in report.rows:
        m, d, f = row.measurement, row.measurement.description, row.metadata
        warm_up = sum(len(run.warm_up_ns) for run in m.processes)
        cells = [*_name_cells(d), str(d.threads or "all"), str(len(m.calls_ns)), str(warm_up), f"{m.max_ms:.3f}"]
        cells.append(NONE if f.nodes is None else f"{f.nodes_on_provider} of {f.nodes}")
        cells.append(_number(None if f.size_bytes is None else f.size_bytes / 1e6, 2))
        cells += [_number(value, 0) for value in (f.peak_mib, f.import_ms, f.load_ms)]
        cells += [_number(value, 1) for value in (f.first_ms, f.overhead_us)]
        rows.append(cells + ([_number(f.power_w, 1), _number(f.energy_mj, 2)] if with_power else []))
    return head, rows


def stage_table(report: BenchReport) -> Table:
    """Tabulate the durations of each stage of the measured pipelines."""
    rows = []
    for row in report.rows:
        for stage, durations in row.stages_ns.items():
            times = [f"{percentile(durations, p) / 1e6:.3f}" for p in (50, 90, 99)]
            rows.append([row.measurement.description.provider, stage, *times, str(len(durations))])
    return ["pipeline on", "stage", "p50 ms", "p90 ms", "p99 ms", "count"], rows


def to_csv(report: BenchReport) -> str:
    """Render a report as CSV, one line per candidate; unknown values are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_cells(row) for row in report.rows)
    for one in report.failed:
        writer.writerow(encode(one.description) | {"failure": f"{one.failure.value}: {one.reason}"})
    return text.getvalue()


def _csv_cells(row: Row) -> dict[str, object]:
    m, ratio, accuracy = row.measurement, row.ratio, row.accuracy
    cells = encode(m.description) | encode(row.metadata) | {"calls": len(m.calls_ns)}
    cells |= {name: getattr(m, name) for name in SUMMARY}
    if ratio is not None:
        cells |= {"ratio": ratio.value, "ratio_low": ratio.low, "ratio_high": ratio.high}
    if row.parity is not None:
        cells["parity"] = bool(row.parity)
    if accuracy is not None:
        cells |= {"metric": accuracy.metric.value, "accuracy": accuracy.value}
    return cells


def machine(e: Environment) -> str:
    """Describe the machine and its software in one line."""
    memory = "" if e.memory_gib is None else f", {e.memory_gib:g} GiB"
    clock = "" if e.clock_mhz is None else f", {e.clock_mhz:.0f} MHz"
    governor = "" if e.governor is None else f" ({e.governor})"
    load = "" if e.load_average is None else f", load {e.load_average[0]:.2f}"
    gpu = "" if e.gpu is None else f", {e.gpu}"
    mode = "" if e.power_mode is None else f", power mode {e.power_mode}"
    packages = ", ".join(f"{name} {number}" for name, number in e.packages.items())
    cores = f"{counted(e.logical_cores, 'core')}{memory}{clock}{governor}{gpu}{mode}{load}"
    return f"{e.cpu}, {cores}; {e.os} {e.machine}, Python {e.python}, {packages}; {e.utc}"


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _width(text: str) -> int:
    """Return the width in a terminal, where combining marks take no column, and Chinese characters two."""
    return sum((unicodedata.combining(c) == 0) * (2 if unicodedata.east_asian_width(c) in "WF" else 1) for c in text)
