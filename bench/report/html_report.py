"""A benchmark report as a self-contained HTML page."""

from __future__ import annotations

from html import escape

from ..accuracy.accuracy import Metric
from ..timing.measurement import Level
from ..worker.process import FailureKind
from .html_charts import distributions, stages, throughput, tradeoff
from .html_page import bullets, page, section, table
from .report import BenchReport, Row
from .tables import footprint_table, input_notes, latency_table, machine, notes

ALARMS = frozenset({"NO", *(kind.value for kind in FailureKind)})
"""Words shown in red: a failed parity check, and the kinds of failure."""


def to_html(report: BenchReport) -> str:
    """Render a report as a self-contained page."""
    body = f"""<p>{escape(machine(report.environment))}</p>
<p>{"" if report.conditions is None else escape(str(report.conditions))}</p>
<h2>Latency</h2>
{table(latency_table(report), alarms=ALARMS)}
{_distributions(report)}
{_throughputs(report)}
{_tradeoffs(report)}
{_stages(report)}
<h2>Footprint and cold start</h2>
{table(footprint_table(report), alarms=ALARMS)}
<p>Peak memory is that of the whole process. Import, load and first call were timed in fresh processes with all files in
the page cache. “mien adds” is the time that mien's own code adds to a bare call of the session.</p>
{bullets("Parity", [f"{row.measurement.description}: {row.parity}" for row in report.rows if row.parity is not None])}
{bullets("Warnings", notes(report))}
{bullets("Inputs", input_notes(report))}"""
    return page("mien bench", body)


def _distributions(report: BenchReport) -> str:
    if not report.rows:
        return "<p>Nothing was measured.</p>"
    caption = (
        "Each dot is a call. The box spans the middle half of the calls, the line is the median, and the tick marks "
        "the 99th percentile. The axis is logarithmic."
    )
    return section("Latency of each call", distributions(report.rows), caption)


def _throughputs(report: BenchReport) -> str:
    """Plot the throughput of each model that was measured at several batch sizes."""
    by_model: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.measurement.description.level is Level.MODEL:
            by_model.setdefault(row.measurement.description.model, []).append(row)
    plots = [
        f"<h3>{escape(model)}</h3>{throughput(rows)}"
        for model, rows in by_model.items()
        if len({row.measurement.description.batch for row in rows}) > 1
    ]
    caption = "Across: images per call, logarithmic. Up: images per second."
    return section("Throughput by batch size", "".join(plots), caption)


def _tradeoffs(report: BenchReport) -> str:
    """Plot each accuracy metric over p90 latency."""
    plots = []
    for metric in Metric:
        rows = [row for row in report.rows if row.accuracy is not None and row.accuracy.metric is metric]
        if rows:
            plots.append(f"<h3>{metric.value.upper()},{metric.unit}</h3>{tradeoff(rows, metric)}")
    caption = "Across: p90, faster to the left. Up: more accurate. Lines are 95 % intervals of the accuracy."
    return section("Speed against accuracy", "".join(plots), caption)


def _stages(report: BenchReport) -> str:
    plots = [f"<h3>{escape(str(r.measurement.description))}</h3>{stages(r)}" for r in report.rows if r.stages_ns]
    caption = (
        "Bars are median durations of a stage when it runs, ticks the 90th percentile, and × the number of times it "
        "ran. The detector does not run on every frame, and few frames need a new age and gender; process covers "
        "detect to smooth."
    )
    return section("Stages of the pipeline", "".join(plots), caption)
