"""What else ran while candidates took their turns: readings of the machine, other processes, a hypervisor."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mien.bench.timing.sensors import Reading


class BackgroundLoad:
    """Looks at a machine during the rounds, and adds up what neither candidates nor this process used of it."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self.readings: list[Reading] = []
        self._read = read
        self._begun = (0.0, 0.0)
        self._first = Reading()
        self._others: list[tuple[float, float]] = []
        self._stolen: list[tuple[float, float]] = []
        """Processor time that was used in a process, and how long its rounds took, s; processes where it is known."""

    def begin(self) -> None:
        """The rounds of a process begin."""
        self.look()
        self._first = self.readings[-1]
        self._begun = time.perf_counter(), time.process_time()

    def look(self) -> None:
        """A round is over."""
        self.readings.append(self._read())

    def end(self, candidates_s: float | None) -> None:
        """The rounds of a process are over. candidates_s: processor time of all turns, None if it is not known."""
        first, last = self._first, self.readings[-1]
        elapsed_s, own_s = time.perf_counter() - self._begun[0], time.process_time() - self._begun[1]
        if first.busy_s is not None and last.busy_s is not None and candidates_s is not None:
            self._others.append((max(0.0, last.busy_s - first.busy_s - candidates_s - own_s), elapsed_s))
        if first.stolen_s is not None and last.stolen_s is not None:
            self._stolen.append((last.stolen_s - first.stolen_s, elapsed_s))

    @property
    def others_cores(self) -> float | None:
        """Cores that other processes used during the rounds; None where that is not known."""
        return _share(self._others)

    @property
    def stolen_cores(self) -> float | None:
        """Cores that a hypervisor gave to others during the rounds; None where that is not known."""
        return _share(self._stolen)


def _share(parts: Sequence[tuple[float, float]]) -> float | None:
    return sum(used for used, _ in parts) / sum(elapsed for _, elapsed in parts) if parts else None
