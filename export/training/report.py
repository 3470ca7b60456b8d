"""Report of a training loop, compatible with the textbook's notebooks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from ...runtime.errors import InputError
from .curves import Curves, plot_curves
from .history import History, Metric


class Report(History):
    """Recorder, printer and plotter of training metrics, with the interface of `Report` in torch_snippets.

    >>> from mien.export import Report
    >>> report = Report(n_epochs=10)
    >>> report.record(2.35, trn_loss=0.7, end="\\r")  # 35 % into the third epoch
    >>> report.record(3, val_loss=0.6)
    >>> report.report_avgs(3)
    >>> report.plot_epochs(["trn_loss", "val_loss"])

    Each recorded metric is also an attribute: ``report.trn_loss`` lists its positions and values.

    Attributes:
        n_epochs: Number of epochs; None if unknown.
        precision: Number of decimals to print.
    """

    def __init__(
        self,
        n_epochs: int | None = None,
        precision: int = 3,
        old_report: History | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(n_epochs, clock=clock)
        self.precision = precision
        self._to_cover = 0  # characters of the line that the next one replaces
        if old_report is not None:
            self.prepend(old_report)

    def __getattr__(self, name: str) -> list[Metric]:
        rows = self.__dict__.get("rows", [])  # while a copy is made there are none yet
        found = [Metric(position, row[name]) for position, row in rows if name in row]
        if not found:
            raise AttributeError(f"no metric or attribute {name!r}")
        return found

    def prepend(self, old_report: History) -> None:
        """Prepend the metrics of an earlier run, at positions that end at 0."""
        last = max((position for position, _ in old_report.rows), default=0.0)
        self.rows[:0] = [(position - last, dict(row)) for position, row in old_report.rows]

    def record(self, pos: float, *, end: str = "\n", log: str = "", **metrics: Any) -> None:
        r"""Record metrics and print them.

        Args:
            pos: Position in epochs; 2.35 is 35 % into the third epoch.
            end: End of the printed line; after ``"\r"`` the next line replaces it.
            log: Text to print first.
            **metrics: Values by name; may be tensors with a single element.
        """
        self.add(pos, metrics)
        self.report_metrics(pos, end=end, log=log, **self.rows[-1][1])

    def report_avgs(self, epoch: int, return_avgs: bool = True, end: str = "\n") -> dict[str, float] | None:
        """Print the mean of each metric over an epoch.

        Args:
            epoch: Epoch from 1. Its last step is at this position, or just before it if steps are counted from 0.
            return_avgs: Return the means.
            end: End of the printed line.

        Returns:
            The means, by ``epoch_`` and the metric's name; empty if nothing was recorded in that epoch.
        """
        means = self.averages().get(epoch, {})
        self.report_metrics(epoch, end=end, log="", **means)
        return {f"epoch_{name}": value for name, value in means.items()} if return_avgs else None

    def report_metrics(self, pos: float, *, end: str = "\n", log: str = "", **metrics: float) -> None:
        """Print metrics, the elapsed time and, if known, the remaining time."""
        values = "  ".join(f"{name}: {value:.{self.precision}f}" for name, value in metrics.items())
        left = self.seconds_left()
        times = f"{self._clock() - self._started:.2f}s" + ("" if left is None else f" - {left:.2f}s remaining")
        line = f"{log}{': ' if log else ''}EPOCH: {pos:.3f}  {values}  ({times})"
        print("\r" + line.ljust(self._to_cover), end="" if end == "\r" else end, flush=True)
        self._to_cover = len(line) if end == "\r" else 0

    def history(self, name: str) -> list[float]:
        """Return the values of a metric."""
        return [value for _, value in self._curves([name])[name]]

    def plot(self, keys: Sequence[str] | str | None = None, smooth: int = 0, ax: Any = None, **options: Any) -> None:
        """Plot every recorded value.

        Args:
            keys: Names of metrics, or a regular expression that they match; default: all.
            smooth: Length of the moving average.
            ax: Matplotlib axes to draw on.
            **options: Options of `plot_curves`: path, log, title, figsize, fontdict.

        Raises:
            InputError: No such metric was recorded.
        """
        curves = self._curves(keys)
        plot_curves({name: _smoothed(points, smooth) for name, points in curves.items()}, ax=ax, **options)

    def plot_epochs(self, keys: Sequence[str] | str | None = None, ax: Any = None, **options: Any) -> None:
        """Plot each metric's mean by epoch; arguments and errors are those of `plot`, without `smooth`."""
        averages = self.averages().items()
        names = self._curves(keys)
        plot_curves({n: [(epoch, row[n]) for epoch, row in averages if n in row] for n in names}, ax=ax, **options)

    def _curves(self, keys: Sequence[str] | str | None) -> Curves:
        logged = self.logged
        if isinstance(keys, str):
            names = [name for name in logged if re.search(keys, name)] or [keys]
        else:
            names = logged if keys is None else list(keys)
        for name in names:
            if name not in logged:
                raise InputError(f"no metric {name!r} was recorded; there are: {', '.join(logged) or 'none yet'}")
        return {name: self.values(name) for name in names}


def _smoothed(points: Sequence[tuple[float, float]], count: int) -> Sequence[tuple[float, float]]:
    if count < 2:
        return points
    windows = (points[max(0, i + 1 - count) : i + 1] for i in range(len(points)))
    return [(window[-1][0], sum(value for _, value in window) / len(window)) for window in windows]
