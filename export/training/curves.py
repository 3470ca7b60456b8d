"""Curves of a training's metrics, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...runtime.errors import OutputError
from ...runtime.outputs import atomic_path

Curves = Mapping[str, Sequence[tuple[float, float]]]
"""Points (position in epochs, value) by metric."""


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
        path: Picture to write. Without it, and without `ax`, the plot is shown, in a window or in the notebook.
        ax: Matplotlib axes to draw on, which are left to the caller to show.
        log: Use a logarithmic scale, unless a value is 0 or less, which it could not show.
        title: Title of the plot.
        figsize: Width and height in inches.
        fontdict: Font of the title, as matplotlib takes it.

    Raises:
        OutputError: `path` cannot be written.
    """
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    if ax is not None:
        axes = ax
    elif path is not None:  # a bare figure needs no display, and pyplot does not keep it
        axes = Figure(figsize=figsize, layout="constrained").add_subplot()
    else:
        axes = plt.figure(figsize=figsize).add_subplot()
    for name, points in curves.items():
        line = "--" if "val" in name else ":" if "test" in name else "-"
        axes.plot([p[0] for p in points], [p[1] for p in points], line, label=name)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    if title is not None:
        axes.set_title(title, fontdict=fontdict or {"size": 20})
    if log and all(value > 0 for points in curves.values() for _, value in points):
        axes.set_yscale("log")
    if curves:
        axes.legend()
    if path is not None:
        try:
            with atomic_path(Path(path)) as temporary:
                axes.figure.savefig(temporary, dpi=120)
        except ValueError as error:  # matplotlib knows no such picture format
            raise OutputError(f"cannot write {path} ({error})") from error
    elif ax is None and plt.get_backend().lower() != "agg":  # which has nowhere to show it
        plt.show()
