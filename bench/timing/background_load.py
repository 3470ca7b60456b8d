"""Measures the load that other processes and the hypervisor caused while candidates were timed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from .sensors import Reading


class BackgroundLoad:
    """Processor time used by neither the candidates nor this process and its tools, summed over the rounds.

    Args:
        read: Reads the machine's state.

    Attributes:
        readings: The machine's state before the rounds of each process, and after each round.
    """

    def __init__(self, read: Callable[[], Reading]) -> None:
        self.readings: list[Reading] = []
        self._read = read
        self._first = self._last = (0.0, 0.0, Reading())  # wall time and own processor time in s, and the reading
        self._others: list[tuple[float, float]] = []
        self._stolen: list[tuple[float, float]] = []
        """(processor time, duration) in s of the rounds of each process, where known."""

    def begin(self) -> None:
        """Start measuring, before the rounds of a process."""
        self.sample()
        self._first = self._last

    def sample(self) -> None:
        """Read the state after a round."""
        moment = time.perf_counter(), _own_s()  # before nvidia-smi runs: the processor time is read first
        self._last = *moment, self._read()
        self.readings.append(self._last[2])

    def end(self, candidates_s: float | None) -> None:
        """Stop measuring, after the last round of a process and its sample.

        Args:
            candidates_s: Processor time that the candidates used, in s; None if unknown.
        """
        (begun_s, own_begun_s, first), (ended_s, own_ended_s, last) = self._first, self._last
        elapsed_s, own_s = ended_s - begun_s, own_ended_s - own_begun_s
        if first.busy_s is not None and last.busy_s is not None and candidates_s is not None:
            self._others.append((max(0.0, last.busy_s - first.busy_s - candidates_s - own_s), elapsed_s))
        if first.stolen_s is not None and last.stolen_s is not None:
            self._stolen.append((last.stolen_s - first.stolen_s, elapsed_s))

    @property
    def others_cores(self) -> float | None:
        """Mean number of cores that other processes used during the rounds; None if unknown."""
        return _share(self._others)

    @property
    def stolen_cores(self) -> float | None:
        """Mean number of cores that the hypervisor gave to other guests during the rounds; None if unknown."""
        return _share(self._stolen)


def _own_s() -> float:
    """Return the processor time in s of this process and of the processes that it has waited for, as nvidia-smi."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _share(parts: Sequence[tuple[float, float]]) -> float | None:
    return sum(used for used, _ in parts) / sum(elapsed for _, elapsed in parts) if parts else None
