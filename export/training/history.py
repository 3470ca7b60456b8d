"""History of a run's metrics: means by epoch, remaining time, CSV and TensorBoard output."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...runtime.atomic_file import write_report


class Metric(NamedTuple):
    """Value of a metric at a position in epochs."""

    pos: float
    val: float


class History:
    """Metrics recorded at positions in epochs; names need not be declared.

    Attributes:
        n_epochs: Number of epochs; None if unknown.
        rows: Position in epochs and metrics, in the order recorded.
    """

    def __init__(self, n_epochs: int | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.n_epochs = n_epochs
        self.rows: list[tuple[float, dict[str, float]]] = []
        self._clock = clock
        self.reset_time()

    @property
    def logged(self) -> list[str]:
        """Names of the metrics, in order of first occurrence."""
        return list(dict.fromkeys(name for _, row in self.rows for name in row))

    @property
    def completed_epochs(self) -> int:
        """Number of whole epochs that have been recorded."""
        return int(self.rows[-1][0]) if self.rows else 0

    def reset_time(self) -> None:
        """Restart the clock used to estimate the remaining time."""
        self._started = self._clock()
        self._start_position: float | None = float(self.completed_epochs) if self.rows else None

    def add(self, position: float, metrics: Mapping[str, float]) -> None:
        """Record metrics.

        Args:
            position: Position in epochs; 2.35 is 35 % into the third epoch.
            metrics: Values by name; may be tensors with a single element.
        """
        if self._start_position is None:
            self._start_position = float(int(position))
        self.rows.append((float(position), {name: _number(value) for name, value in metrics.items()}))

    def values(self, name: str) -> list[Metric]:
        """Return a metric's values with their positions, in the order recorded."""
        return [Metric(position, row[name]) for position, row in self.rows if name in row]

    def averages(self) -> dict[int, dict[str, float]]:
        """Return the mean of each metric over each epoch, from epoch 1.

        An epoch ends with its whole number, as with ``epoch + (i + 1) / n``. If anything is recorded at 0, steps are
        counted from 0 instead, as with ``epoch + i / n``, and an epoch starts with the whole number before it.
        """
        from_zero = min((position for position, _ in self.rows), default=1.0) == 0
        sums: dict[int, dict[str, list[float]]] = {}
        for position, row in self.rows:
            exact = round(position, 9)  # 1/3 + 1/3 + 1/3 may exceed 1
            epoch = math.floor(exact) + 1 if from_zero else math.ceil(exact)
            for name, value in row.items():
                sums.setdefault(epoch, {}).setdefault(name, []).append(value)
        return {e: {n: sum(v) / len(v) for n, v in sums[e].items()} for e in sorted(sums)}

    def seconds_left(self) -> float | None:
        """Estimate the time to the last epoch at the average pace; None if that is not possible yet."""
        if not self.rows or self._start_position is None or self.n_epochs is None:
            return None
        done = self.rows[-1][0] - self._start_position
        if done <= 0:
            return None
        return (self._clock() - self._started) / done * (self.n_epochs - self.rows[-1][0])

    def save_csv(self, path: str | Path) -> None:
        """Write each metric's mean, one row per epoch.

        Raises:
            OutputError: `path` cannot be written.
        """
        names = self.logged
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerow(["epoch", *names])
        for epoch, row in self.averages().items():
            writer.writerow([epoch, *(f"{row[n]:.6g}" if n in row else "" for n in names)])
        write_report(Path(path), table.getvalue())

    def write_scalars(self, writer: Any, epoch: int) -> None:
        """Write the means of an epoch to TensorBoard.

        Args:
            writer: A ``torch.utils.tensorboard.SummaryWriter``.
            epoch: Epoch from 1.
        """
        for name, value in self.averages().get(epoch, {}).items():
            writer.add_scalar(name, value, epoch)
        writer.flush()


def _number(value: Any) -> float:
    return float(value.detach() if hasattr(value, "detach") else value)
