"""What is found out about candidates when the clock is off: memory, parity, the runner's cost, power, accuracy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mien.bench.accuracy.accuracy import Accuracy, accuracy_of, folder_for
from mien.bench.parity.parity import ParityGate
from mien.bench.parity.tolerances import compare_outputs
from mien.bench.report.report import CandidateMetadata
from mien.bench.suite.candidates import Entry, Plan
from mien.bench.timing.measurement import Level
from mien.bench.timing.sensors import board_power_w, read_sensors
from mien.runtime.errors import CheckFailed, InputError, ProcessFailed

log = logging.getLogger("mien")

POWER_S = 3.0
"""How long a candidate runs without a pause for its power to be read."""
POWER_EVERY_S = 0.05


class PostRunChecks:
    """Collects `metadata`, `parities` and `accuracies` by the names of `entries`, which it may ask in their processes.

    baseline_of: who is compared with whom. data: folders with labels; held_out: only what training keeps out of them.
    gpu: whether nvidia-smi tells the power.
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        baseline_of: Mapping[str, str],
        *,
        data: Sequence[Path],
        held_out: bool,
        gpu: bool,
    ) -> None:
        self.metadata: dict[str, CandidateMetadata] = {}
        self.parities: dict[str, ParityGate] = {}
        self.accuracies: dict[str, Accuracy] = {}
        self._entries = entries
        self._baseline_of = baseline_of
        self._data = data
        self._held_out = held_out
        self._gpu = gpu

    def look(self) -> None:
        """What a report cannot do without: without parity there is no ratio."""
        self._note_memory()
        self._check_parities()

    def look_closely(self) -> None:
        """The rest, which takes longer."""
        self._note_overheads()
        self._note_powers()
        self._note_accuracies()

    def _each(self, step: Callable[[Entry], None], entries: Iterable[Entry]) -> None:
        """Examine candidates; one whose process is lost meanwhile keeps what was measured."""
        for entry in entries:
            if self.metadata[entry.name].failure:
                continue
            try:
                step(entry)
            except ProcessFailed as error:
                self._note_failure(entry, error)

    def _note_failure(self, entry: Entry, error: ProcessFailed) -> None:
        log.warning("%s was measured, but is lost since: %s", entry.name, error)
        self.metadata[entry.name] = replace(self.metadata[entry.name], failure=str(error))

    def _note_memory(self) -> None:
        for entry in self._entries.values():  # what was known before, for all, should a process be lost meanwhile
            self.metadata[entry.name] = CandidateMetadata(
                file=entry.plan.file,
                size_bytes=_size_of(entry.plan),
                device_mib=entry.device_mib,
                inputs=entry.inputs,
            )

        def note(entry: Entry) -> None:
            self.metadata[entry.name] = replace(self.metadata[entry.name], peak_mib=entry.process.peak_mib())

        self._each(note, self._entries.values())

    def _check_parities(self) -> None:
        def check(entry: Entry) -> None:
            base = self._entries.get(self._baseline_of.get(entry.name, ""))
            if base is None or entry.images is None:
                return
            try:
                wanted = base.runner(entry.images)
            except ProcessFailed as error:
                self._note_failure(base, error)
                return
            found = entry.runner(entry.images)
            try:
                parity = compare_outputs(base.runner.spec, entry.runner.precision, wanted, found)
            except CheckFailed as error:  # an output that is missing or has another shape
                log.warning("%s: %s", entry.name, error)
                parity = ParityGate(())
            self.parities[entry.name] = parity

        self._each(check, self._entries.values())

    def _note_overheads(self) -> None:
        def note(entry: Entry) -> None:
            cost, nodes = entry.process.overhead()
            metadata = self.metadata[entry.name]
            if cost is not None:
                metadata = replace(metadata, overhead_us=cost[0], bare_us=cost[1])
            if nodes is not None:
                metadata = replace(metadata, nodes_on_provider=nodes[0], nodes=nodes[1])
            self.metadata[entry.name] = metadata

        self._each(note, (e for e in self._entries.values() if not e.plan.baseline))

    def _note_powers(self) -> None:
        """Mean power while a candidate runs without a pause, read from this process, which is idle else."""

        def read() -> float | None:
            return read_sensors(gpu=True).power_w if self._gpu else board_power_w()

        if read() is None:
            return

        def note(entry: Entry) -> None:
            entry.process.start_running(POWER_S)
            seen = []
            until = time.monotonic() + POWER_S
            while time.monotonic() < until:
                time.sleep(POWER_EVERY_S)
                seen.append(read())
            calls, seconds = entry.process.calls_run()
            powers = [w for w in seen if w is not None]
            if powers and calls:
                power_w = float(np.mean(powers))
                energy_mj = 1e3 * power_w * seconds / calls
                self.metadata[entry.name] = replace(self.metadata[entry.name], power_w=power_w, energy_mj=energy_mj)

        self._each(note, self._entries.values())

    def _note_accuracies(self) -> None:
        """Of every artifact on every provider once, and of the baselines that others are compared with."""
        known: dict[tuple[Path, str], Accuracy] = {}
        bases = set(self._baseline_of.values())

        def note(entry: Entry) -> None:
            spec = entry.opened.spec
            folder = None if spec is None else folder_for(spec.task, self._data)
            if folder is None or (entry.plan.baseline and entry.name not in bases):
                return
            key = (entry.plan.path, entry.opened.provider)
            if key not in known:
                log.info("accuracy of %s on %s", entry.name, folder.name)
                try:
                    known[key] = accuracy_of(entry.runner, folder, held_out=self._held_out)
                except InputError as error:  # no reason to throw away what was measured
                    log.warning("no accuracy of %s: %s", entry.name, error)
                    return
            self.accuracies[entry.name] = known[key]

        self._each(note, self._entries.values())


def _size_of(plan: Plan) -> int | None:
    """Of the file that holds the model; a pipeline's is a clip."""
    return plan.path.stat().st_size if plan.path.is_file() and plan.level is not Level.PIPELINE else None
