"""What else ran while candidates took their turns: readings of the machine, other processes, a hypervisor."""

from __future__ import annotations

import time
from collections.abc import Callable

from .sensors import Reading


class Company:
    """Looks at a machine during the rounds, and adds up what neither candidates nor this process used of it."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self.readings: list[Reading] = []
        self._read = read
        self._begun = (0.0, 0.0)
        self._first = Reading()
        self._elapsed_s = 0.0
        self._others_s: float | None = 0.0
        self._stolen_s: float | None = 0.0

    def begin(self) -> None:
        """The rounds of a launch begin."""
        self.look()
        self._first = self.readings[-1]
        self._begun = time.perf_counter(), time.process_time()

    def look(self) -> None:
        """A round is over."""
        self.readings.append(self._read())

    def end(self, candidates_s: float | None) -> None:
        """The rounds of a launch are over. candidates_s: processor time of all turns, None if it is not known."""
        first, last = self._first, self.readings[-1]
        own_s = time.process_time() - self._begun[1]
        self._elapsed_s += time.perf_counter() - self._begun[0]
        if first.busy_s is None or last.busy_s is None or candidates_s is None or self._others_s is None:
            self._others_s = None
        else:
            self._others_s += max(0.0, last.busy_s - first.busy_s - candidates_s - own_s)
        if first.stolen_s is None or last.stolen_s is None or self._stolen_s is None:
            self._stolen_s = None
        else:
            self._stolen_s += last.stolen_s - first.stolen_s

    @property
    def others_cores(self) -> float | None:
        """Cores that other processes used during the rounds; None where that is not known."""
        return None if self._others_s is None or not self._elapsed_s else self._others_s / self._elapsed_s

    @property
    def stolen_cores(self) -> float | None:
        """Cores that a hypervisor gave to others during the rounds; None where that is not known."""
        return None if self._stolen_s is None or not self._elapsed_s else self._stolen_s / self._elapsed_s
