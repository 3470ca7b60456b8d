"""Plots the metrics of a run with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...runtime.atomic_file import atomic_path
from ...runtime.errors import OutputError

Curves = Mapping[str, Sequence[tuple[float, float]]]
"""Points (position in epochs, value) by metric."""
DOTS_BELOW = 50
"""Number of points below which each is marked."""
LOG_FROM = 20.0
"""Losses are shown on a logarithmic scale if the largest exceeds the smallest by this factor."""


def plot_curves(
    curves: Curves,
    *,
    path: str | Path | None = None,
    ax: Any = None,
    log: bool = False,
    title: str | None = None,
    figsize: tuple[float, float] = (8, 6),
    fontdict: Mapping[str, Any] | None = None,
) -> None:
    """Plot metrics by epoch; validation metrics are dashed, test metrics dotted.

    Args:
        curves: The metrics.
        path: Picture to write. Without `path` and `ax`, the plot is shown in a window or notebook.
        ax: Matplotlib axes to draw on, for the caller to show.
        log: Use a logarithmic scale, unless a value is 0 or less.
        title: Title of the plot.
        figsize: Width and height in inches.
        fontdict: Font of the title, as in matplotlib.

    Raises:
        OutputError: `path` cannot be written.
    """
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if ax is not None:
        axes = ax
    elif path is not None:  # a bare figure needs no display, and pyplot does not keep it
        axes = Figure(figsize=figsize, layout="constrained").add_subplot()
    else:
        axes = plt.figure(figsize=figsize).add_subplot()
    for name, points in curves.items():
        line = "--" if "val" in name else ":" if "test" in name else "-"
        marker = "." if len(points) < DOTS_BELOW else ""  # a single epoch has no line
        axes.plot([p[0] for p in points], [p[1] for p in points], line, marker=marker, label=name)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    if title is not None:
        axes.set_title(title, fontdict=dict(fontdict or {"size": 20}))
    if log and all(value > 0 for points in curves.values() for _, value in points):
        _use_log_scale(axes)
    if curves:
        axes.legend()
    if path is not None:
        _save(axes.figure, Path(path))
    elif ax is None and plt.get_backend().lower() != "agg":  # which has nowhere to show it
        plt.show()


def plot_run(losses: Curves, metrics: Curves, *, best_epoch: int, path: Path) -> None:
    """Plot a run's losses together and each metric separately, marking the best epoch.

    Args:
        losses: Losses by epoch, on one plot.
        metrics: Validation metrics by epoch.
        best_epoch: Epoch of ``best.pt``.
        path: Picture to write.

    Raises:
        OutputError: `path` cannot be written.
    """
    from matplotlib.figure import Figure

    plots = [losses, *({name: points} for name, points in metrics.items())]
    figure = Figure(figsize=(5.5 * len(plots), 4.5), layout="constrained")
    for axes, curves in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
        values = [value for points in curves.values() for _, value in points]
        plot_curves(curves, ax=axes, log=curves is losses and max(values) > LOG_FROM * min(values))
        axes.axvline(best_epoch, color="grey", linewidth=1, linestyle=":", label=f"best epoch: {best_epoch}")
        for line, points in zip(axes.get_lines(), curves.values(), strict=False):
            at_best = [value for epoch, value in points if epoch == best_epoch]
            axes.plot([best_epoch] * len(at_best), at_best, "o", color=line.get_color())
            if curves is not losses:
                axes.set_title(f"{line.get_label()} {at_best[0]:.4g} at epoch {best_epoch}", fontsize=11)
        axes.legend()
    _save(figure, path)


def _use_log_scale(axes: Any) -> None:
    """Label 1, 2 and 5 times the powers of ten with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _save(figure: Any, path: Path) -> None:
    try:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=120)
    except ValueError as error:  # unknown picture format
        raise OutputError(f"cannot write {path} ({error})") from error
