"""History of a training's metrics, as averages, a CSV file and curves."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class Report:
    """Collect metrics during a training; names need not be declared first.

    >>> report = Report(n_epochs=10)
    >>> report.record(2.35, trn_loss=0.7)  # 35 % into the third epoch

    Attributes:
        n_epochs: Length of the training.
        rows: Position in epochs and metrics, in the order in which they were recorded.
    """

    def __init__(self, n_epochs: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.n_epochs = n_epochs
        self.rows: list[tuple[float, dict[str, float]]] = []
        self._clock = clock
        self._started = clock()
        self._start_position: float | None = None

    def record(self, position: float, /, **metrics: float) -> None:
        """Record metrics.

        Args:
            position: Position in epochs; 2.35 is 35 % into the third epoch.
            **metrics: Values by name.
        """
        if self._start_position is None:
            self._start_position = float(int(position))
        self.rows.append((float(position), {name: float(value) for name, value in metrics.items()}))

    def report_avgs(self, epoch: int) -> dict[str, float]:
        """Return the mean of each metric over an epoch.

        Args:
            epoch: Epoch from 1; it covers the positions in (epoch − 1, epoch].
        """
        sums: dict[str, list[float]] = {}
        for position, metrics in self.rows:
            if epoch - 1 < position <= epoch:
                for name, value in metrics.items():
                    sums.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in sums.items()}

    def seconds_left(self) -> float | None:
        """Estimate the time to the last epoch at the average pace, or return None before anything has been recorded."""
        if not self.rows or self._start_position is None:
            return None
        done = self.rows[-1][0] - self._start_position
        if done <= 0:
            return None
        return (self._clock() - self._started) / done * (self.n_epochs - self.rows[-1][0])

    def save_csv(self, path: Path) -> None:
        """Write each metric's mean, one row per epoch."""
        averages = self._averages()
        names = list(dict.fromkeys(name for _, row in averages for name in row))
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["epoch", *names])
            for epoch, row in averages:
                writer.writerow([epoch, *(f"{row[n]:.6g}" if n in row else "" for n in names)])

    def write_scalars(self, writer: Any, epoch: int) -> None:
        """Write the means of an epoch to TensorBoard.

        Args:
            writer: A ``torch.utils.tensorboard.SummaryWriter``.
            epoch: Epoch from 1.
        """
        for name, value in self.report_avgs(epoch).items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    def plot_epochs(self, names: Sequence[str], *, path: Path | None = None) -> None:
        """Plot metrics by epoch.

        Args:
            names: Metrics to plot; those that were never recorded leave an empty curve.
            path: PNG file to write; without it the plot is shown on screen.
        """
        import matplotlib.pyplot as plt
        from matplotlib.figure import Figure

        # Only pyplot's figures can be shown; a bare Figure needs no display.
        make: Any = plt.figure if path is None else Figure
        figure = make(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        averages = self._averages()
        for name in names:
            points = [(epoch, row[name]) for epoch, row in averages if name in row]
            axes.plot([p[0] for p in points], [p[1] for p in points], label=name)
        axes.set_xlabel("epoch")
        axes.set_yscale("log")  # on a linear scale the first epochs would flatten the others
        axes.legend()
        axes.grid(alpha=0.3)
        if path is not None:
            figure.savefig(path, dpi=120)
        else:
            plt.show()
            plt.close(figure)

    def _averages(self) -> list[tuple[int, dict[str, float]]]:
        last = int(-(-max((position for position, _ in self.rows), default=0) // 1))
        averages = [(epoch, self.report_avgs(epoch)) for epoch in range(1, last + 1)]
        return [(epoch, row) for epoch, row in averages if row]
