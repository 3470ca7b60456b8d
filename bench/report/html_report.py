"""A benchmark report as one HTML page that works offline, in dark and light mode, and on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..accuracy.accuracy import Metric
from ..timing.measurement import Level
from ..worker.process import FailureKind
from .html_charts import distributions, stages, throughput, tradeoff
from .report import BenchReport, Row
from .tables import Table, footprint_table, input_notes, latency_table, machine, notes

ALARMS = {"NO", *(kind.value for kind in FailureKind)}
"""Cells shown in red: parity that does not hold, and how a candidate failed."""
STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #667; --line: #ccd; --fill: #3f7fbf; --page: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #99a; --line: #445; --fill: #6fb1ee; --page: #14181d; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto;
  max-width: 76rem; padding: 1rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: .3rem .4rem; border-bottom: 1px solid var(--line); text-align: right; overflow-wrap: normal; }
th { vertical-align: bottom; color: var(--soft); } th:first-child, td:first-child { text-align: left; }
svg { display: block; width: 100%; height: auto; max-width: 52rem; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } .axis { stroke: var(--line); } .dot { fill: var(--fill); fill-opacity: .25; }
.box { fill: none; stroke: var(--ink); stroke-width: 1.5; } .no { color: #d33; font-weight: 600; }
.line { fill: none; stroke: var(--fill); stroke-width: 2; }
.bar { fill: var(--fill); } .mark { fill: var(--fill); stroke: var(--page); } .range { stroke: var(--ink); }
li, p { color: var(--soft); }
@media (max-width: 60rem) {
  table, tbody { display: block; } tr:first-child { display: none; }
  tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)); gap: .1rem .8rem;
    border: 1px solid var(--line); border-radius: .4rem; margin: .6rem 0; padding: .4rem .6rem; }
  td, td:first-child { text-align: left; border: 0; padding: .1rem 0; }
  td:first-child { grid-column: 1 / -1; font-weight: 600; }
  td:not(:first-child)::before { content: attr(data-head); display: block; color: var(--soft); font-size: 12px; } }
@media (max-width: 32rem) { svg text { font-size: 18px; } ol, ul { padding-left: 1.2rem; } }
"""


def to_html(report: BenchReport) -> str:
    """Render a report as one self-contained page."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>mien bench</title><style>{STYLE}</style></head><body>
<h1>mien bench</h1>
<p>{escape(machine(report.environment))}</p>
<p>{"" if report.conditions is None else escape(str(report.conditions))}</p>
<h2>Latency</h2>
{_table(latency_table(report))}
{_distributions(report)}
{_throughputs(report)}
{_tradeoffs(report)}
{_stages(report)}
<h2>Footprint and cold start</h2>
{_table(footprint_table(report))}
<p>Peak memory is that of the whole process. Import, load and first call were timed in fresh processes with all files in
the page cache. “mien adds” is the time of mien's own code around a bare call of the session.</p>
{_list("Parity", [f"{row.measurement.description}: {row.parity}" for row in report.rows if row.parity is not None])}
{_list("Warnings", notes(report))}
{_list("Inputs", input_notes(report))}
</body></html>
"""


def _distributions(report: BenchReport) -> str:
    if not report.rows:
        return "<p>Nothing was measured.</p>"
    caption = (
        "<p>Each dot is a call. The box spans the middle half of the calls with the median as a line; the tick marks "
        "the 99th percentile. The axis is logarithmic.</p>"
    )
    return f"<h2>Latency of each call</h2>{distributions(report.rows)}{caption}"


def _throughputs(report: BenchReport) -> str:
    """Plot the throughput of each model that was measured with several batch sizes."""
    by_model: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.measurement.description.level is Level.MODEL:
            by_model.setdefault(row.measurement.description.model, []).append(row)
    plots = [
        f"<h3>{escape(model)}</h3>{throughput(rows)}"
        for model, rows in by_model.items()
        if len({row.measurement.description.batch for row in rows}) > 1
    ]
    if not plots:
        return ""
    caption = "<p>Across: images per call, logarithmic. Up: images per second.</p>"
    return f"<h2>Throughput by batch size</h2>{''.join(plots)}{caption}"


def _tradeoffs(report: BenchReport) -> str:
    """Plot each measure of accuracy over p90."""
    plots = []
    for metric in Metric:
        rows = [row for row in report.rows if row.accuracy is not None and row.accuracy.metric is metric]
        if rows:
            plots.append(f"<h3>{metric.value.upper()},{metric.unit}</h3>{tradeoff(rows, metric)}")
    if not plots:
        return ""
    caption = "<p>Faster (p90) is to the left, more accurate is up; the line is the 95 % interval of the accuracy.</p>"
    return f"<h2>Speed against accuracy</h2>{''.join(plots)}{caption}"


def _stages(report: BenchReport) -> str:
    plots = [f"<h3>{escape(str(r.measurement.description))}</h3>{stages(r)}" for r in report.rows if r.stages_ns]
    if not plots:
        return ""
    caption = (
        "<p>The bar is the median duration of a stage when it runs, the tick its 90th percentile, × the number of "
        "times it ran; detect and attributes do not run on every frame. process spans detect to smooth.</p>"
    )
    return f"<h2>Stages of the pipeline</h2>{''.join(plots)}{caption}"


def _list(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    return f"<h2>{title}</h2><ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _table(table: Table) -> str:
    """Render a table; on a phone each row becomes a card, with the headings from ``data-head``."""
    head, rows = table

    def cell(heading: str, text: str) -> str:
        alarm = " class=no" if text.split(",")[0] in ALARMS else ""
        return f'<td{alarm} data-head="{escape(heading)}">{escape(text)}</td>'

    body = "".join(f"<tr>{''.join(map(cell, head, row))}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{escape(h)}</th>' for h in head)}</tr>{body}</table>"
