"""Charts of an evaluation as SVG: curves, reliability diagrams and confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import numpy.typing as npt

from ...runtime.values import FloatArray
from ...runtime.wording import counted
from .html_charts import AXIS_LEFT, PLOT_HEIGHT, RIGHT, TOP, WIDTH, round_values, svg, value_axis

BOTTOM = PLOT_HEIGHT - 24
MOST_LINES = 5
"""Maximum number of lines in a chart, one per colour."""
BINS = 10


def line_chart(
    lines: Mapping[str, tuple[FloatArray, FloatArray]],
    *,
    label: str,
    x_range: tuple[float, float],
    limits: Sequence[float] = (),
    diagonal: bool = False,
    dots: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """Draw lines over a vertical axis of 0 to 100 percent.

    Args:
        lines: Positions (n,) and percentages (n,) of each line by name; at most `MOST_LINES`.
        label: What both axes show.
        x_range: Ends of the horizontal axis.
        limits: Positions of dashed vertical lines.
        diagonal: Draw a dashed line from corner to corner.
        dots: Point to mark on each line, by the line's name.
    """
    low, high = x_range

    def x(value: float) -> float:
        return AXIS_LEFT + (WIDTH - RIGHT - AXIS_LEFT) * (value - low) / (high - low)

    def y(percent: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * percent / 100

    parts = value_axis([0, 20, 40, 60, 80, 100], y)
    for tick in round_values(low, high):
        parts.append(f'<text class="soft" x="{x(tick):.1f}" y="{PLOT_HEIGHT}" text-anchor="middle">{tick:.4g}</text>')
    parts += [f'<path class="limit" d="M{x(at):.1f} {TOP}V{BOTTOM}"/>' for at in limits]
    if diagonal:
        parts.append(f'<path class="limit" d="M{x(low):.1f} {y(0):.1f}L{x(high):.1f} {y(100):.1f}"/>')
    for number, (name, (xs, ys)) in enumerate(lines.items()):
        path = "L".join(f"{x(at):.1f} {y(percent):.1f}" for at, percent in zip(xs, ys, strict=True))
        parts.append(f'<path class="line line{number}" d="M{path}"><title>{escape(name)}</title></path>')
        if dots is not None and name in dots:
            at, percent = dots[name]
            parts.append(f'<circle class="mark line{number}" cx="{x(at):.1f}" cy="{y(percent):.1f}" r="5"/>')
    names = "".join(f'<li class="key{number}">{escape(name)}</li>' for number, name in enumerate(lines))
    return svg(PLOT_HEIGHT + 8, label, parts) + f"<ul class=keys>{names}</ul>"


def cumulative_errors(errors: Mapping[str, FloatArray], *, label: str, limit: float) -> str:
    """Draw the cumulative distribution of errors, one line per group.

    Args:
        errors: Errors (n,) by group, NaN for samples without a prediction; the largest groups are shown.
        label: What both axes show.
        limit: Error above which a sample counts as failed, marked by a dashed line.
    """
    shown = sorted(errors, key=lambda name: -len(errors[name]))[:MOST_LINES]
    known = np.concatenate([values[np.isfinite(values)] for values in errors.values()])
    end = min(max(float(np.quantile(known, 0.99)), 1.25 * limit), 3 * limit)
    at = np.linspace(0, end, 121)
    lines = {f"{name} ({len(errors[name])})": (at, _at_most(errors[name], at)) for name in shown}
    return line_chart(lines, label=label, x_range=(0.0, end), limits=[limit])


def reliability(probability: FloatArray, happened: npt.NDArray[np.bool_], *, label: str) -> str:
    """Draw a reliability diagram: observed frequency over predicted probability (Guo et al., ICML 2017, fig. 1).

    Args:
        probability: Predicted probabilities (n,).
        happened: Whether the event occurred (n,).
        label: What both axes show.
    """
    which = np.minimum((probability * BINS).astype(int), BINS - 1)
    filled = np.unique(which)
    means = np.array([100 * probability[which == b].mean() for b in filled])
    rates = np.array([100 * happened[which == b].mean() for b in filled])
    counts = "".join(
        f"<li>{10 * b} to {10 * b + 10} %: {counted(int((which == b).sum()), 'sample')}, "
        f"predicted {mean:.1f} %, observed {rate:.1f} %</li>"
        for b, mean, rate in zip(filled, means, rates, strict=True)
    )
    chart = line_chart({"observed": (means, rates)}, label=label, x_range=(0.0, 100.0), diagonal=True)
    return f"{chart}<details><summary>numbers</summary><ul>{counts}</ul></details>"


def confusion(labelled: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: Sequence[str]) -> str:
    """Render a confusion matrix as a table, with one row per labelled class and one column per predicted class.

    Args:
        labelled: Indices (n,) of the labelled classes.
        predicted: Indices (n,) of the predicted classes.
        classes: Names of the classes.
    """
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (labelled, predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def cell(row: int, column: int) -> str:
        colour = "--fill" if row == column else "--wrong"
        shade = f"background:color-mix(in srgb, var({colour}) {70 * shares[row, column]:.0f}%, transparent)"
        return f'<td style="{shade}" title="{100 * shares[row, column]:.1f} %">{counts[row, column]}</td>'

    columns = range(len(classes))
    head = "".join(f"<th>{escape(name)}</th>" for name in classes)
    rows = "".join(f"<tr><td>{escape(classes[r])}</td>{''.join(cell(r, c) for c in columns)}</tr>" for r in columns)
    corner = "<th>labelled \N{DOWNWARDS ARROW} predicted \N{RIGHTWARDS ARROW}</th>"
    return f"<div class=wide><table class=matrix><tr>{corner}{head}</tr>{rows}</table></div>"


def _at_most(errors: FloatArray, at: FloatArray) -> FloatArray:
    """Return the percentage of errors (n,) not above each value of `at` (m,); NaN counts as above."""
    ordered = np.sort(errors[np.isfinite(errors)])
    return 100 * np.searchsorted(ordered, at, side="right") / len(errors)
