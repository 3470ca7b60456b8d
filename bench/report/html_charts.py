"""Charts of a benchmark report as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from ...runtime.values import percentile
from ..accuracy.accuracy import Metric
from .report import Row

WIDTH, LANE, LEFT, RIGHT, TOP = 600, 46, 10, 20, 30
AXIS_LEFT = 64
"""Left end of charts with a vertical axis, in px."""
PLOT_HEIGHT, BAR, BARS_FROM, LONGEST_BAR = 260, 30, 104, 210
HALF_LABEL_PX = 24
"""Half the width of the widest label of an axis."""
NEAR_PX, TEXT_PX = 18, 16
"""Numbers closer together than this, across and up, are stacked."""


def distributions(rows: Sequence[Row]) -> str:
    """Draw the latency of every call, with quartiles and 99th percentile, one lane per row."""
    calls = [np.array(row.measurement.calls_ns) / 1e6 for row in rows]
    low, high = float(min(c.min() for c in calls)) / 1.1, float(max(c.max() for c in calls)) * 1.1
    x, height = _log_axis(low, high), TOP + LANE * len(calls)
    parts = _time_axis(low, high, x, height)
    rng = np.random.default_rng(0)
    for lane, (row, values) in enumerate(zip(rows, calls, strict=True)):
        middle = TOP + LANE * lane + 30
        parts.append(f'<text x="{LEFT}" y="{middle - 14}">{escape(str(row.measurement.description))}</text>')
        for value, shift in zip(values, rng.uniform(-7, 7, len(values)), strict=True):
            parts.append(f'<circle class="dot" cx="{x(value):.1f}" cy="{middle + shift:.1f}" r="2"/>')
        q1, q2, q3, p99 = (x(percentile(values, percent)) for percent in (25, 50, 75, 99))
        parts.append(f'<rect class="box" x="{q1:.1f}" y="{middle - 8}" width="{max(q3 - q1, 1):.1f}" height="16"/>')
        parts.append(f'<path class="box" d="M{q2:.1f} {middle - 8}v16M{p99:.1f} {middle - 5}v10"/>')
    return svg(height, "latency of each call, in ms", parts)


def tradeoff(rows: Sequence[Row], metric: Metric) -> str:
    """Draw accuracy over p90 latency, with better values on top."""
    known = [(row, row.accuracy) for row in rows if row.accuracy is not None]
    times = [row.measurement.p90_ms for row, _ in known]
    spans = [(float(np.quantile(a.replicates, 0.025)), float(np.quantile(a.replicates, 0.975))) for _, a in known]
    low_ms, high_ms = min(times) / 1.3, max(times) * 1.6
    low, high = min(s[0] for s in spans), max(s[1] for s in spans)
    margin = max((high - low) * 0.1, 1e-3 * max(abs(high), 1e-9))
    low, high = low - margin, high + margin
    x = _log_axis(low_ms, high_ms, left=AXIS_LEFT)

    def y(value: float) -> float:
        up = (value - low) / (high - low)
        return TOP + (PLOT_HEIGHT - TOP) * (1 - up if metric.higher_is_better else up)

    parts = _time_axis(low_ms, high_ms, x, PLOT_HEIGHT)
    parts += value_axis(round_values(low, high), y)
    placed: list[tuple[float, float]] = []
    for number, ((_, accuracy), ms, (below, above)) in enumerate(zip(known, times, spans, strict=True), start=1):
        at_x, at_y = x(ms), y(accuracy.value)
        parts.append(f'<path class="range" d="M{at_x:.1f} {y(below):.1f}V{y(above):.1f}"/>')
        parts.append(f'<circle class="mark" cx="{at_x:.1f}" cy="{at_y:.1f}" r="5"/>')
        parts.append(_number(number, at_x + 6, at_y - 9, placed, -TEXT_PX))
    named = "".join(
        f"<li>{escape(str(row.measurement.description))}: {accuracy}, p90 {ms:.2f} ms</li>"
        for (row, accuracy), ms in zip(known, times, strict=True)
    )
    return svg(PLOT_HEIGHT + 4, f"{metric.value} over p90 in ms", parts) + f"<ol>{named}</ol>"


def throughput(rows: Sequence[Row]) -> str:
    """Draw images per second over batch size, one line per precision and provider."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        d = row.measurement.description
        name = f"{d.provider}{'' if d.precision is None else f', {d.precision.value}'}"
        lines.setdefault(name, []).append((d.batch, row.measurement.images_per_second))
    batches = sorted({batch for line in lines.values() for batch, _ in line})
    highest = max(rate for line in lines.values() for _, rate in line)
    x = _log_axis(batches[0] / 1.15, batches[-1] * 1.25, left=AXIS_LEFT)

    def y(rate: float) -> float:
        return PLOT_HEIGHT - 24 - (PLOT_HEIGHT - 24 - TOP) * rate / highest

    parts = value_axis(round_values(0.0, highest), y)
    for batch in batches:
        parts.append(f'<text class="soft" x="{x(batch):.1f}" y="{PLOT_HEIGHT}" text-anchor="middle">{batch}</text>')
    placed: list[tuple[float, float]] = []
    for number, (name, line) in enumerate(lines.items(), start=1):
        points = [(x(batch), y(rate)) for batch, rate in sorted(line)]
        path = "L".join(f"{at_x:.1f} {at_y:.1f}" for at_x, at_y in points)
        parts.append(f'<path class="line" d="M{path}"><title>{escape(name)}</title></path>')
        parts += [f'<circle class="mark" cx="{at_x:.1f}" cy="{at_y:.1f}" r="4"/>' for at_x, at_y in points]
        parts.append(_number(number, points[-1][0] + 9, points[-1][1] + 5, placed, TEXT_PX))
    named = "".join(
        f"<li>{escape(name)}: {', '.join(f'{rate:.0f} at batch {batch}' for batch, rate in sorted(line))}</li>"
        for name, line in lines.items()
    )
    return svg(PLOT_HEIGHT + 8, "images per second over the batch size", parts) + f"<ol>{named}</ol>"


def _number(number: int, x: float, y: float, placed: list[tuple[float, float]], step: int) -> str:
    """Draw the number of a mark at (x, y), or in steps of y beyond the numbers `placed` there before."""
    while any(abs(y - other) < TEXT_PX and abs(x - where) < NEAR_PX for where, other in placed):
        y += step
    placed.append((x, y))
    return f'<text x="{x:.1f}" y="{y:.1f}">{number}</text>'


def stages(row: Row) -> str:
    """Draw the median duration of each pipeline stage as a bar, with a tick at p90."""
    times = {name: [percentile(ns, p) / 1e6 for p in (50, 90)] for name, ns in row.stages_ns.items()}
    longest = max(p90 for _, p90 in times.values())
    parts = []
    for lane, (name, (p50, p90)) in enumerate(times.items()):
        top = BAR * lane
        width, tick = LONGEST_BAR * p50 / longest, BARS_FROM + LONGEST_BAR * p90 / longest
        parts.append(f'<text x="{BARS_FROM - 8}" y="{top + 19}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="bar" x="{BARS_FROM}" y="{top + 5}" width="{max(width, 1):.1f}" height="18"/>')
        parts.append(f'<path class="box" d="M{tick:.1f} {top + 5}v18"/>')
        label = f"{p50:.2f} ms, p90 {p90:.2f}, {len(row.stages_ns[name])}×"
        parts.append(f'<text class="soft" x="{max(tick, BARS_FROM + width) + 8:.1f}" y="{top + 19}">{label}</text>')
    return svg(BAR * len(times) + 8, "stages of the pipeline", parts)


def _log_axis(low: float, high: float, *, left: float = LEFT) -> Callable[[float], float]:
    """Return a function that maps ms to px on a logarithmic axis."""

    def x(ms: float) -> float:
        return left + (WIDTH - left - RIGHT) * float(np.log(ms / low) / np.log(high / low))

    return x


def _time_axis(low: float, high: float, x: Callable[[float], float], height: int) -> list[str]:
    parts = []
    for number, tick in enumerate(_ticks(low, high)):
        parts.append(f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP - 8}" y2="{height}"/>')
        label = f"{tick:g}" if number else f"{tick:g} ms"
        anchor = "middle" if x(tick) >= HALF_LABEL_PX else "start"  # or the first would be clipped
        parts.append(f'<text class="soft" x="{x(tick):.1f}" y="17" text-anchor="{anchor}">{label}</text>')
    return parts


def value_axis(values: Sequence[float], y: Callable[[float], float]) -> list[str]:
    """Draw the horizontal lines of a linear axis, labelled on the left."""
    parts = []
    for value in values:
        at = y(value)
        parts.append(f'<line class="axis" x1="{AXIS_LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="soft" x="{AXIS_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    return parts


def round_values(low: float, high: float) -> list[float]:
    """Return at most six ticks for a linear axis, spaced by 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10((high - low) / 5))
    step = next(float(power * mantissa) for mantissa in (1, 2, 5, 10) if power * mantissa >= (high - low) / 5)
    return [k * step for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def _ticks(low: float, high: float) -> list[float]:
    """Return ticks for a logarithmic axis: 1, 2 and 5 times each power of ten, only the powers on a long axis.

    An axis too short for two of these has those of a linear one.
    """
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    mantissas = (1, 2, 5) if high / low < 1e3 else (1,)
    ticks = [m * 10.0**p for p in powers for m in mantissas if low <= m * 10.0**p <= high]
    return ticks if len(ticks) > 1 else round_values(low, high)


def svg(height: int, label: str, parts: Sequence[str]) -> str:
    """Wrap SVG elements in a drawing `WIDTH` px wide and `height` px high."""
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
