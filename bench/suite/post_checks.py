"""Checks made after the timed rounds: memory, parity, overhead of the runner, power, accuracy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...runtime.errors import CheckFailed, InputError, ProcessFailed
from ...runtime.models.spec import ModelSpec, Precision
from ..accuracy.accuracy import Accuracy, accuracy_of
from ..parity.compare_outputs import compare_outputs
from ..parity.parity import ParityGate
from ..timing.sensors import board_power_w, read_sensors
from ..worker.remote_runner import RemoteRunner
from .candidates import CandidateRecord

log = logging.getLogger("mien")

POWER_S = 3.0
"""Duration of the continuous run during which power is read."""
POWER_EVERY_S = 0.05


class PostRunChecks:
    """Checks that complete the records of candidates after the timed rounds.

    If a process fails during a check, its measurements are kept and the failure is noted in its metadata.

    Args:
        records: Candidates by name.
        labelled: Returns the folder with labels for a model, if any.
        held_out: Measure accuracy only on what `mien train` holds out.
        gpu: Read the power from nvidia-smi.
    """

    def __init__(
        self,
        records: Mapping[str, CandidateRecord],
        *,
        labelled: Callable[[ModelSpec], Path | None],
        held_out: bool,
        gpu: bool,
    ) -> None:
        self._records = records
        self._labelled = labelled
        self._held_out = held_out
        self._gpu = gpu
        self._accuracies: dict[tuple[Path, str], Accuracy] = {}

    def run_essential(self) -> None:
        """Run the checks that every report needs; without parity, for instance, there is no ratio."""
        self._each(self._note_memory)
        self._each(self._check_parity)

    def run_slow(self) -> None:
        """Run the remaining checks."""
        self._each(self._note_overhead)
        if self._power_w() is not None:
            self._each(self._note_power)
        self._each(self._note_accuracy)

    def _each(self, check: Callable[[CandidateRecord], None]) -> None:
        for record in self._records.values():
            if record.metadata.failure:
                continue
            try:
                check(record)
            except ProcessFailed as error:
                self._note_failure(record, error)

    def _note_failure(self, record: CandidateRecord, error: ProcessFailed) -> None:
        log.warning("%s was measured, but its process failed afterwards: %s", record.name, error)
        record.metadata = replace(record.metadata, failure=str(error))

    def _note_memory(self, record: CandidateRecord) -> None:
        record.metadata = replace(record.metadata, peak_mib=record.process.peak_mib())

    def _check_parity(self, record: CandidateRecord) -> None:
        base = self._records.get(record.baseline or "")
        if base is None or record.images is None:
            return
        reference, runner = RemoteRunner(base.process), RemoteRunner(record.process)
        try:
            wanted = reference(record.images)
        except ProcessFailed as error:
            self._note_failure(base, error)
            return
        found = runner(record.images)
        # The less precise of the two sets the tolerance.
        precision = reference.precision if runner.precision is Precision.FP32 else runner.precision
        try:
            record.parity = compare_outputs(reference.spec, precision, wanted, found)
        except CheckFailed as error:  # an output is missing or has a different shape
            log.warning("%s: %s", record.name, error)
            record.parity = ParityGate(())

    def _note_overhead(self, record: CandidateRecord) -> None:
        if record.candidate.baseline:
            return
        overhead, nodes = record.process.overhead()
        if overhead is not None:
            record.metadata = replace(record.metadata, overhead_us=overhead[0], bare_us=overhead[1])
        if nodes is not None:
            record.metadata = replace(record.metadata, nodes_on_provider=nodes[0], nodes=nodes[1])

    def _power_w(self) -> float | None:
        return read_sensors(gpu=True).power_w if self._gpu else board_power_w()

    def _note_power(self, record: CandidateRecord) -> None:
        """Measure the mean power while a candidate runs continuously and this process idles."""
        record.process.start_running(POWER_S)
        readings = []
        until = time.monotonic() + POWER_S
        while time.monotonic() < until:
            time.sleep(POWER_EVERY_S)
            readings.append(self._power_w())
        calls, seconds = record.process.calls_run()
        powers = [w for w in readings if w is not None]
        if powers and calls:
            power_w = float(np.mean(powers))
            record.metadata = replace(record.metadata, power_w=power_w, energy_mj=1e3 * power_w * seconds / calls)

    def _note_accuracy(self, record: CandidateRecord) -> None:
        """Measure each model file once per provider, and the baselines that others are compared with."""
        spec, candidate = record.process.spec, record.candidate
        folder = None if spec is None else self._labelled(spec)
        is_compared_with = any(record.name == other.baseline for other in self._records.values())
        if folder is None or (candidate.baseline and not is_compared_with):
            return
        key = (candidate.path, record.process.provider)
        if key not in self._accuracies:
            log.info("accuracy of %s on %s", record.name, folder.name)
            try:
                self._accuracies[key] = accuracy_of(RemoteRunner(record.process), folder, held_out=self._held_out)
            except InputError as error:  # the latencies are still valid
                log.warning("no accuracy for %s: %s", record.name, error)
                return
        record.accuracy = self._accuracies[key]
