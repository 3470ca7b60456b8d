"""A benchmark report as one page: works offline, in dark and light, on a phone."""

from __future__ import annotations

from html import escape

import numpy as np

from .report import BenchReport, Row, machine

WIDTH, LANE, LEFT, RIGHT, TOP = 720, 46, 10, 20, 30
STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #667; --line: #ccd; --fill: #3f7fbf; --page: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #99a; --line: #445; --fill: #6fb1ee; --page: #14181d; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto;
  max-width: 60rem; padding: 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; white-space: nowrap; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--page); }
svg { width: 100%; height: auto; min-width: 36rem; } svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } .axis { stroke: var(--line); } .dot { fill: var(--fill); fill-opacity: .25; }
.box { fill: none; stroke: var(--ink); stroke-width: 1.5; } .no { color: #d33; font-weight: 600; }
li, p { color: var(--soft); }
"""


def to_html(report: BenchReport) -> str:
    """The whole page."""
    notes = [*report.warnings]
    for row in report.rows:
        about = row.measurement.description
        notes += [f"No ratio for {about}: {row.withheld}"] if row.withheld is not None else []
        notes += [f"{about}: {text}" for text in row.warnings]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>mien bench</title><style>{STYLE}</style></head><body>
<h1>mien bench</h1>
<p>{escape(machine(report.environment))}</p>
<h2>Latency of each call</h2>
{_distributions(report)}
<p>Every dot is a call. The box holds the middle half of the calls, its line is the median; the tick is the 99th
percentile. The axis is logarithmic.</p>
<h2>Figures</h2>
<div class="wide">{_table(report)}</div>
{"<h2>To be doubted</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>" if notes else ""}
</body></html>
"""


def _distributions(report: BenchReport) -> str:
    calls = [np.array(row.measurement.calls_ns) / 1e6 for row in report.rows]
    low, high = min(c.min() for c in calls), max(c.max() for c in calls)
    low, high = float(low) / 1.1, float(high) * 1.1

    def x(ms: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * float(np.log(ms / low) / np.log(high / low))

    height = TOP + LANE * len(calls)
    parts = [
        f'<div class="wide"><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="latency of each call, in ms">'
    ]
    for tick in _ticks(low, high):
        parts.append(f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP - 8}" y2="{height}"/>')
        parts.append(f'<text class="soft" x="{x(tick):.1f}" y="14" text-anchor="middle">{tick:g} ms</text>')
    rng = np.random.default_rng(0)
    for lane, (row, values) in enumerate(zip(report.rows, calls, strict=True)):
        middle = TOP + LANE * lane + 30
        parts.append(f'<text x="{LEFT}" y="{middle - 14}">{escape(str(row.measurement.description))}</text>')
        for value, shift in zip(values, rng.uniform(-7, 7, len(values)), strict=True):
            parts.append(f'<circle class="dot" cx="{x(value):.1f}" cy="{middle + shift:.1f}" r="2"/>')
        q1, q2, q3, p99 = (x(float(v)) for v in np.percentile(values, [25, 50, 75, 99]))
        parts.append(f'<rect class="box" x="{q1:.1f}" y="{middle - 8}" width="{max(q3 - q1, 1):.1f}" height="16"/>')
        parts.append(f'<path class="box" d="M{q2:.1f} {middle - 8}v16M{p99:.1f} {middle - 5}v10"/>')
    return "".join([*parts, "</svg></div>"])


def _ticks(low: float, high: float) -> list[float]:
    """Round values of a logarithmic axis: 1, 2 and 5 of each power of ten."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]


def _table(report: BenchReport) -> str:
    heads = ["model", "provider", "batch", "threads", "calls", "p50 ms", "p90 ms", "p99 ms", "max ms", "images/s"]
    heads += ["ratio (95 %)", "parity"]
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in _cells(row))}</tr>" for row in report.rows)
    return f"<table><tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr>{rows}</table>"


def _cells(row: Row) -> list[str]:
    m, d = row.measurement, row.measurement.description
    parity = "–" if row.parity is None else escape(str(row.parity))
    if row.parity is not None and not row.parity:
        parity = f'<span class="no">NO: {parity}</span>'
    return [
        f"{escape(d.model)} {d.precision.value}",
        escape(d.provider),
        str(d.batch),
        str(d.threads or "all"),
        str(len(m.calls_ns)),
        *(f"{ms:.3f}" for ms in (m.p50_ms, m.p90_ms, m.p99_ms, m.max_ms)),
        f"{m.images_per_second:.1f}",
        "withheld" if row.withheld is not None else "–" if row.ratio is None else str(row.ratio),
        parity,
    ]
