"""A benchmark report as one HTML page that works offline, in dark and light mode, and on a phone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from itertools import zip_longest

import numpy as np

from ...runtime.values import percentile
from ..accuracy.accuracy import Metric
from ..worker.process import FailureKind
from .report import BenchReport, Row
from .tables import NONE, footprint_table, input_notes, latency_table, machine, notes

WIDTH, LANE, LEFT, RIGHT, TOP = 600, 46, 10, 20, 30
PLOT_HEIGHT, BAR, BARS_FROM, LONGEST_BAR = 260, 30, 96, 290
NEAR_PX = 18
"""Marks closer to each other than this get their numbers stacked."""
ALARMS = {"NO", *(kind.value for kind in FailureKind)}
"""Cells shown in red: parity that does not hold, and how a candidate failed."""
STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #667; --line: #ccd; --fill: #3f7fbf; --page: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #99a; --line: #445; --fill: #6fb1ee; --page: #14181d; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto;
  max-width: 76rem; padding: 1rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; white-space: nowrap; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--page); }
svg { width: 100%; height: auto; min-width: 28rem; max-width: 52rem; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } .axis { stroke: var(--line); } .dot { fill: var(--fill); fill-opacity: .25; }
.box { fill: none; stroke: var(--ink); stroke-width: 1.5; } .no { color: #d33; font-weight: 600; }
.bar { fill: var(--fill); } .mark { fill: var(--fill); stroke: var(--page); } .range { stroke: var(--ink); }
li, p { color: var(--soft); }
@media (max-width: 32rem) { th, td { padding: .3rem; }
  th:first-child, td:first-child { white-space: normal; min-width: 5.5rem; max-width: 7rem; } }
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
<div class="wide">{_latency_table(report)}</div>
<h2>Latency of each call</h2>
{_distributions(report)}
<p>Each dot is a call. The box spans the middle half of the calls with the median as a line; the tick marks the 99th
percentile. The axis is logarithmic.</p>
{_tradeoffs(report)}
{_stages(report)}
<h2>Footprint and cold start</h2>
<div class="wide">{_table(*footprint_table(report))}</div>
<p>Peak memory is that of the whole process. Import, load and first call were timed in fresh processes with all files in
the page cache. “mien adds” is the time of mien's own code around a bare call of the session.</p>
{_list("Warnings", notes(report))}
{_list("Inputs", input_notes(report))}
</body></html>
"""


def _list(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    return f"<h2>{title}</h2><ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _log_axis(low: float, high: float, *, left: float = LEFT, right: float = RIGHT) -> Callable[[float], float]:
    """Map ms to px on a logarithmic axis of a drawing `WIDTH` px wide."""

    def x(ms: float) -> float:
        return left + (WIDTH - left - right) * float(np.log(ms / low) / np.log(high / low))

    return x


def _time_axis(low: float, high: float, x: Callable[[float], float], height: int) -> list[str]:
    parts = []
    for tick in _ticks(low, high):
        parts.append(f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP - 8}" y2="{height}"/>')
        parts.append(f'<text class="soft" x="{x(tick):.1f}" y="14" text-anchor="middle">{tick:g} ms</text>')
    return parts


def _svg(height: int, label: str, parts: Sequence[str]) -> str:
    start = f'<div class="wide"><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
    return "".join([start, *parts, "</svg></div>"])


def _distributions(report: BenchReport) -> str:
    calls = [np.array(row.measurement.calls_ns) / 1e6 for row in report.rows]
    if not calls:
        return "<p>Nothing was measured.</p>"
    low, high = float(min(c.min() for c in calls)) / 1.1, float(max(c.max() for c in calls)) * 1.1
    x, height = _log_axis(low, high), TOP + LANE * len(calls)
    parts = _time_axis(low, high, x, height)
    rng = np.random.default_rng(0)
    for lane, (row, values) in enumerate(zip(report.rows, calls, strict=True)):
        middle = TOP + LANE * lane + 30
        parts.append(f'<text x="{LEFT}" y="{middle - 14}">{escape(str(row.measurement.description))}</text>')
        for value, shift in zip(values, rng.uniform(-7, 7, len(values)), strict=True):
            parts.append(f'<circle class="dot" cx="{x(value):.1f}" cy="{middle + shift:.1f}" r="2"/>')
        q1, q2, q3, p99 = (x(percentile(values, percent)) for percent in (25, 50, 75, 99))
        parts.append(f'<rect class="box" x="{q1:.1f}" y="{middle - 8}" width="{max(q3 - q1, 1):.1f}" height="16"/>')
        parts.append(f'<path class="box" d="M{q2:.1f} {middle - 8}v16M{p99:.1f} {middle - 5}v10"/>')
    return _svg(height, "latency of each call, in ms", parts)


def _ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: 1, 2 and 5 times each power of ten, or the powers alone on a long axis."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    mantissas = (1, 2, 5) if high / low < 1e3 else (1,)
    return [m * 10.0**p for p in powers for m in mantissas if low <= m * 10.0**p <= high]


def _tradeoffs(report: BenchReport) -> str:
    """Plot each measure of accuracy over p90, better values on top."""
    plots = []
    for metric in Metric:
        rows = [row for row in report.rows if row.accuracy is not None and row.accuracy.metric is metric]
        if rows:
            plots.append(f"<h3>{metric.value.upper()},{metric.unit}</h3>{_tradeoff(rows, metric)}")
    if not plots:
        return ""
    caption = "<p>Faster (p90) is to the left, more accurate is up; the line is the 95 % interval of the accuracy.</p>"
    return f"<h2>Speed against accuracy</h2>{''.join(plots)}{caption}"


def _tradeoff(rows: Sequence[Row], metric: Metric) -> str:
    known = [(row, row.accuracy) for row in rows if row.accuracy is not None]
    times = [row.measurement.p90_ms for row, _ in known]
    spans = [(float(np.quantile(a.replicates, 0.025)), float(np.quantile(a.replicates, 0.975))) for _, a in known]
    low_ms, high_ms = min(times) / 1.3, max(times) * 1.6
    low, high = min(s[0] for s in spans), max(s[1] for s in spans)
    margin = max((high - low) * 0.1, 1e-3 * max(abs(high), 1e-9))
    low, high = low - margin, high + margin
    x = _log_axis(low_ms, high_ms, left=56)

    def y(value: float) -> float:
        up = (value - low) / (high - low)
        return TOP + (PLOT_HEIGHT - TOP) * (1 - up if metric.higher_is_better else up)

    parts = _time_axis(low_ms, high_ms, x, PLOT_HEIGHT)
    for value in np.linspace(low + margin, high - margin, 4):
        at = y(float(value))
        parts.append(f'<line class="axis" x1="56" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="soft" x="50" y="{at + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    placed: list[tuple[float, float]] = []
    for number, ((_, accuracy), ms, (below, above)) in enumerate(zip(known, times, spans, strict=True), start=1):
        at_x, at_y = x(ms), y(accuracy.value)
        parts.append(f'<path class="range" d="M{at_x:.1f} {y(below):.1f}V{y(above):.1f}"/>')
        parts.append(f'<circle class="mark" cx="{at_x:.1f}" cy="{at_y:.1f}" r="5"/>')
        label_y = at_y - 9
        while any(abs(label_y - other) < 13 and abs(at_x - where) < NEAR_PX for where, other in placed):
            label_y -= 13
        placed.append((at_x, label_y))
        parts.append(f'<text x="{at_x + 6:.1f}" y="{label_y:.1f}">{number}</text>')
    named = "".join(
        f"<li>{escape(str(row.measurement.description))}: {accuracy}, p90 {ms:.2f} ms</li>"
        for (row, accuracy), ms in zip(known, times, strict=True)
    )
    return _svg(PLOT_HEIGHT + 4, f"{metric.value} over p90 in ms", parts) + f"<ol>{named}</ol>"


def _stages(report: BenchReport) -> str:
    plots = []
    for row in report.rows:
        if not row.stages_ns:
            continue
        stages = {name: [percentile(ns, p) / 1e6 for p in (50, 90)] for name, ns in row.stages_ns.items()}
        longest = max(float(p90) for _, p90 in stages.values())
        parts = []
        for lane, (name, (p50, p90)) in enumerate(stages.items()):
            top = BAR * lane
            width, tick = LONGEST_BAR * float(p50) / longest, BARS_FROM + LONGEST_BAR * float(p90) / longest
            parts.append(f'<text x="{BARS_FROM - 8}" y="{top + 19}" text-anchor="end">{escape(name)}</text>')
            parts.append(f'<rect class="bar" x="{BARS_FROM}" y="{top + 5}" width="{max(width, 1):.1f}" height="18"/>')
            parts.append(f'<path class="box" d="M{tick:.1f} {top + 5}v18"/>')
            label = f"{p50:.2f} ms, p90 {p90:.2f}, {len(row.stages_ns[name])}×"
            parts.append(f'<text class="soft" x="{max(tick, BARS_FROM + width) + 8:.1f}" y="{top + 19}">{label}</text>')
        about = row.measurement.description
        plots.append(f"<h3>{escape(str(about))}</h3>{_svg(BAR * len(stages) + 8, 'stages of the pipeline', parts)}")
    if not plots:
        return ""
    caption = (
        "<p>The bar is the median duration of a stage when it runs, the tick its 90th percentile, × the number of "
        "times it ran; detect and attributes do not run on every frame. process spans detect to smooth.</p>"
    )
    return f"<h2>Stages of the pipeline</h2>{''.join(plots)}{caption}"


def _latency_table(report: BenchReport) -> str:
    head, rows = latency_table(report)
    deviations = [NONE if row.parity is None else str(row.parity) for row in report.rows]
    return _table([*head, "deviation"], [[*row, d] for row, d in zip_longest(rows, deviations, fillvalue=NONE)])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cell(text: str) -> str:
        return f"<td{' class=no' if text.split(',')[0] in ALARMS else ''}>{escape(text)}</td>"

    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{escape(h)}</th>' for h in head)}</tr>{body}</table>"
