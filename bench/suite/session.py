"""The candidates of one benchmark: opened one after the other, timed in interleaved rounds, checked afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ...runtime.batch.parallel import counter
from ...runtime.errors import ProcessFailed
from ...runtime.interrupts import postponed
from ...runtime.models.model_file import ModelFile
from ...runtime.models.spec import Task
from ...runtime.values import Image, Progress
from ..bridge import PyTorchBridge
from ..report.build_report import build_report
from ..report.report import BenchReport, CandidateMetadata, FailedCandidate, RunConditions
from ..timing.background_load import BackgroundLoad
from ..timing.environment import Environment
from ..timing.interleave import check_counts, interleave, warm_up
from ..timing.measurement import Description, Level
from ..timing.sensors import has_nvidia_smi, read_sensors
from ..worker.candidate import Candidate
from ..worker.process import CandidateFailed, CandidateProcess, FailureKind, allocator
from ..worker.targets import PRIMING_CALLS
from .candidates import CandidateRecord, candidate_name, describe
from .inputs import BenchInputs
from .interrupts import remembered_interrupts
from .options import BenchOptions
from .post_checks import PostRunChecks

log = logging.getLogger("mien")

WARM_UP_CALLS = 200


class BenchmarkSession:
    """Owns the processes of a benchmark: add the candidates, then `measure` once."""

    def __init__(self, options: BenchOptions, folder: Path) -> None:
        check_counts(rounds=options.rounds, calls_per_round=options.calls_per_round, warm_up_calls=WARM_UP_CALLS)
        self._options = options
        self._inputs = BenchInputs(folder, data=options.data, feed=options.feed)
        self._stack = ExitStack()
        self._check_interrupt = self._stack.enter_context(remembered_interrupts())
        self._gpu = has_nvidia_smi()
        self._records: dict[str, CandidateRecord] = {}
        self._failed: dict[str, FailedCandidate] = {}
        self._shared_baselines: dict[tuple[Path, str, str, Level, int], str] = {}

    def add(self, candidate: Candidate) -> CandidateRecord | None:
        """Open a candidate.

        Returns:
            Its record; None if it failed, which is noted, or if its name is already measured.
        """
        used_before = self._gpu_memory_mib()
        process = None
        try:
            process = self._started(candidate)
            process.open()
            inputs_file, images = self._inputs_of(candidate, process)
            process.bind(inputs_file)
        except CandidateFailed as error:
            self._note_failure(describe(candidate, process), error)
            if process is not None:
                process.close()
            return None
        used = self._gpu_memory_mib()
        description = describe(candidate, process)
        if description.name in self._records:
            log.warning(
                "%s on %s, batch %d: is %s, which is already measured",
                candidate.model,
                candidate.device,
                candidate.batch,
                description.name,
            )
            process.close()
            return None
        self._failed.pop(description.name, None)  # under the same name by another provider, as auto
        metadata = CandidateMetadata(
            file=candidate.file,
            size_bytes=_size_of(candidate),
            device_mib=None if used is None or used_before is None else used - used_before,
            inputs=process.inputs_note,
        )
        record = CandidateRecord(
            candidate, description, process, inputs_file, images, metadata, [process.cold_start_ms]
        )
        self._records[record.name] = record
        return record

    def _started(self, candidate: Candidate) -> CandidateProcess:
        self._check_interrupt()
        with postponed():  # a process that is not known would not be ended
            process = CandidateProcess(candidate, timeout_s=self._options.timeout_s)
            self._stack.callback(process.close)
        return process

    def _inputs_of(self, candidate: Candidate, process: CandidateProcess) -> tuple[Path | None, Image | None]:
        """Prepare the file of a candidate's inputs, and the images for its parity."""
        if candidate.level is Level.PIPELINE:
            return None, None
        if process.spec is None:
            return self._inputs.foreign_file(), None
        inputs_file = self._inputs.file(process.spec, candidate.level, candidate.batch)
        return inputs_file, self._inputs.images(process.spec, candidate.batch)

    def add_baselines(self, record: CandidateRecord, checkpoint: Path, bridge: PyTorchBridge) -> None:
        """Open the baselines of a candidate on its kind of device; ratios are to the first.

        Files of the same weights, such as fp32 and int8, share their baselines.

        Args:
            record: the candidate.
            checkpoint: checkpoint of its weights, or `REFERENCE_NETWORK`.
            bridge: names the functions that open it.
        """
        device = "cpu" if record.process.provider == "cpu" else "cuda"  # all other providers run on NVIDIA's GPUs
        names = []
        for kind in self._options.baselines:
            baseline = replace(
                record.candidate, path=checkpoint, device=device, baseline=kind.value, opener=bridge.baseline_opener()
            )
            key = (checkpoint, device, kind.value, baseline.level, baseline.batch)
            if key not in self._shared_baselines:
                name = candidate_name(baseline, f"{kind.value}-{device}", kind.precision)
                self._shared_baselines[key] = name
                self.add(baseline)
            names.append(self._shared_baselines[key])
        for name in [record.name, *names[1:]]:
            if name in self._records:
                self._records[name].baseline = names[0]

    def models_by_task(self) -> dict[str, str]:
        """Map each task of a pipeline to the first candidate's file for it."""
        found: dict[str, str] = {}
        for record in self._records.values():
            spec = record.process.spec
            if spec is not None and not record.candidate.baseline and spec.task is not Task.CLASSIFY:
                found.setdefault(spec.task.value, str(record.candidate.path))
        return found

    def measure(self, environment: Environment, *, progress: Progress | None = None) -> BenchReport:
        """Measure all candidates in interleaved rounds, in as many processes as were asked for, and check them.

        Ctrl-C ends it; the rounds that are complete by then make a report, if there is one.

        Args:
            environment: the machine as it was before the candidates were opened.
            progress: called after each round with (rounds done, rounds).

        Raises:
            ProcessFailed: all candidates failed.
        """
        options = self._options
        background = BackgroundLoad(lambda: read_sensors(gpu=self._gpu))
        checks = PostRunChecks(self._records, data=options.data, held_out=options.held_out, gpu=self._gpu)
        tick = counter(options.rounds, progress)
        shares = options.rounds_by_process
        interrupted = False
        done = 0
        try:
            for rounds in shares:
                if done:
                    self._restart()
                interrupted = self._run_rounds(rounds, done, background, tick)
                if not done:
                    checks.run_essential()
                if interrupted:
                    break
                done += rounds
            else:
                checks.run_slow()
        except KeyboardInterrupt:
            if not any(record.runs for record in self._records.values()):
                raise
            interrupted = True
        conditions = RunConditions(
            rounds=options.rounds,
            calls_per_round=options.calls_per_round,
            processes=len(shares),
            priming_calls=PRIMING_CALLS,
            allocator=allocator(),
            interrupted=interrupted,
            others_cores=background.others_cores,
            stolen_cores=background.stolen_cores,
            readings=tuple(background.readings),
        )
        return build_report(
            [record.row() for record in self._ordered()],
            environment,
            baseline_of={r.name: r.baseline for r in self._records.values() if r.baseline is not None},
            failed=list(self._failed.values()),
            conditions=conditions,
        )

    def _restart(self) -> None:
        """Start a new process of each candidate: the luck of one, such as its place in memory, must not decide."""
        for record in self._records.values():
            record.process.close()
        for record in list(self._records.values()):
            process = self._started(record.process.candidate)
            try:
                process.open()
                process.bind(record.inputs_file)
            except CandidateFailed as error:
                process.close()
                self._drop(record, error)
            else:
                record.process = process
                record.cold_starts_ms.append(process.cold_start_ms)
        self._check_some_left()

    def _run_rounds(self, rounds: int, done: int, background: BackgroundLoad, tick: Callable[[], None]) -> bool:
        """Warm up and time the current processes; returns whether Ctrl-C ended it."""
        warm_ups = self._warm_ups()

        def after_round(*_: int) -> None:
            background.sample()
            tick()
            self._check_interrupt()

        background.begin()
        found = interleave(
            {record.name: record.process for record in self._ordered()},
            rounds=rounds,
            calls_per_round=self._options.calls_per_round,
            before=done,
            progress=after_round,
        )
        complete = not found.failed and not found.interrupted
        cpu_ns = sum(calls.cpu_ns for one in found.rounds.values() for calls in one)
        background.end(cpu_ns / 1e9 if complete else None)
        for name, error in found.failed.items():
            self._drop(self._records[name], error)
        self._check_some_left()
        for name, one in found.rounds.items():
            self._records[name].runs.append((warm_ups[name], one))
        return found.interrupted

    def _ordered(self) -> list[CandidateRecord]:
        """List the candidates that are left, each after its baseline."""
        ordered: dict[str, CandidateRecord] = {}
        for record in self._records.values():
            if record.baseline in self._records:
                ordered[record.baseline] = self._records[record.baseline]
            ordered[record.name] = record
        return list(ordered.values())

    def _warm_ups(self) -> dict[str, tuple[int, ...]]:
        found = {}
        for record in self._ordered():
            try:
                found[record.name] = warm_up(record.process, limit=WARM_UP_CALLS)
            except ProcessFailed as error:
                self._drop(record, error)
        self._check_some_left()
        return found

    def _drop(self, record: CandidateRecord, error: ProcessFailed) -> None:
        del self._records[record.name]
        self._note_failure(record.description, error)
        record.process.close()

    def _note_failure(self, description: Description, error: ProcessFailed) -> None:
        """Note a failed candidate, unless its name is measured by way of another provider, as auto."""
        log.warning("%s failed: %s", description, error)
        failure = error.failure if isinstance(error, CandidateFailed) else FailureKind.CRASHED
        reason = error.reason if isinstance(error, CandidateFailed) else str(error)
        if description.name not in self._records:
            self._failed.setdefault(description.name, FailedCandidate(description, failure, reason))

    def _check_some_left(self) -> None:
        if not self._records:
            reasons = (f"{one.description}: {one.failure.value} ({one.reason})" for one in self._failed.values())
            raise ProcessFailed(f"no candidate could be measured: {'; '.join(reasons)}")

    def _gpu_memory_mib(self) -> float | None:
        return read_sensors(gpu=True).gpu_memory_mib if self._gpu else None

    def close(self) -> None:
        """End every process."""
        self._stack.close()

    def __enter__(self) -> BenchmarkSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _size_of(candidate: Candidate) -> int | None:
    """Size of the model's file; a pipeline's file is a clip."""
    is_model = candidate.level is not Level.PIPELINE and candidate.path.is_file()
    if not is_model:
        return None
    checkpoint = candidate.path.suffix.lower() == ".pt"
    return candidate.path.stat().st_size if checkpoint else ModelFile.of(candidate.path).size_bytes
