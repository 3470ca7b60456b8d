"""A benchmark session: opens candidates one by one, times them in interleaved rounds, and checks them afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
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
from ..report.report import BenchReport, CandidateMetadata, RunConditions
from ..timing.background_load import BackgroundLoad
from ..timing.environment import Environment
from ..timing.interleave import check_counts, interleave, warm_up
from ..timing.measurement import Level
from ..timing.sensors import has_nvidia_smi, read_sensors
from ..worker.candidate import Candidate
from ..worker.process import CandidateFailed, CandidateProcess, allocator
from ..worker.targets import PRIMING_CALLS
from .candidates import CandidateRecord, candidate_name, describe
from .inputs import BenchInputs
from .options import BenchOptions
from .post_checks import PostRunChecks
from .records import CandidateRecords

log = logging.getLogger("mien")


class BenchmarkSession:
    """Owner of a benchmark's processes: add the candidates, then call `measure` once.

    Args:
        options: Options of the benchmark.
        folder: Folder for the input files.
    """

    def __init__(self, options: BenchOptions, folder: Path) -> None:
        check_counts(rounds=options.rounds, calls_per_round=options.calls_per_round)
        self._options = options
        self._inputs = BenchInputs(folder, data=options.data, feed=options.feed)
        self._stack = ExitStack()
        self._gpu = has_nvidia_smi()
        self._records = CandidateRecords()
        self._shared_baselines: dict[tuple[Path, str, str, Level, int], str] = {}

    def add(self, candidate: Candidate) -> CandidateRecord | None:
        """Open a candidate.

        Returns:
            Its record; None if it failed or its name is already taken.
        """
        used_before = self._gpu_memory_mib()
        for record in self.add_all([candidate]):
            used = self._gpu_memory_mib()
            if used is not None and used_before is not None:
                record.metadata = replace(record.metadata, device_mib=used - used_before)
            record.cold_starts_ms.append(record.process.cold_start_ms)
            return record
        return None

    def add_all(self, candidates: Sequence[Candidate]) -> list[CandidateRecord]:
        """Open candidates at the same time; return the records of those that `add` would return.

        Their cold starts disturb each other and are not recorded.
        """
        started = [self._started(candidate) for candidate in candidates]
        opened = [p for p in started if self._succeeds(p, p.open)]
        inputs = {p: self._inputs_of(p) for p in opened}
        begun = [p for p in opened if self._succeeds(p, p.start_binding, inputs[p][0])]
        bound = [p for p in begun if self._succeeds(p, p.wait_until_bound)]
        return [record for p in bound if (record := self._recorded(p, *inputs[p])) is not None]

    def _succeeds(self, process: CandidateProcess, step: Callable[..., None], *arguments: object) -> bool:
        """Take a step in opening a candidate; note its failure."""
        try:
            step(*arguments)
        except CandidateFailed as error:
            self._records.note_failure(describe(process.candidate, process), error)
            process.close()
            return False
        return True

    def _recorded(
        self, process: CandidateProcess, inputs_file: Path | None, images: Image | None
    ) -> CandidateRecord | None:
        """Record an open candidate; return None if its name is already taken."""
        candidate, description = process.candidate, describe(process.candidate, process)
        if description.name in self._records.running:
            log.warning(
                "skipped %s on %s, batch %d: it is the same as %s",
                candidate.model,
                candidate.device,
                candidate.batch,
                description.name,
            )
            process.close()
            return None
        metadata = CandidateMetadata(file=candidate.file, size_bytes=_size_of(candidate), inputs=process.inputs_note)
        record = CandidateRecord(candidate, description, process, inputs_file, images, metadata)
        self._records.add(record)
        return record

    def _started(self, candidate: Candidate) -> CandidateProcess:
        with postponed():  # an interrupt in between would leave a process that nobody closes
            process = CandidateProcess(candidate, timeout_s=self._options.timeout_s)
            self._stack.callback(process.close)
        return process

    def _inputs_of(self, process: CandidateProcess) -> tuple[Path | None, Image | None]:
        """Return the file with a candidate's inputs, and the images for its parity check."""
        candidate = process.candidate
        if candidate.level is Level.PIPELINE:
            return None, None
        if process.spec is None:
            return self._inputs.foreign_file(), None
        inputs_file = self._inputs.file(process.spec, candidate.level, candidate.batch)
        return inputs_file, self._inputs.images(process.spec, candidate.batch)

    def add_baselines(self, record: CandidateRecord, checkpoint: Path, bridge: PyTorchBridge) -> None:
        """Open the baselines of a candidate on the CPU or GPU, wherever it runs; ratios refer to the first.

        Files with the same weights, such as fp32 and int8, share their baselines.

        Args:
            record: The candidate.
            checkpoint: Checkpoint with its weights, or `REFERENCE_NETWORK`.
            bridge: Supplies the function that opens the checkpoint.
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
            if name in self._records.running:
                self._records.running[name].baseline = names[0]

    def models_by_task(self) -> dict[str, str]:
        """Map each task of a pipeline to the model file of the first candidate for it."""
        found: dict[str, str] = {}
        for record in self._records.running.values():
            spec = record.process.spec
            if spec is not None and not record.candidate.baseline and spec.task is not Task.CLASSIFY:
                found.setdefault(spec.task.value, str(record.candidate.path))
        return found

    def measure(
        self, environment: Environment, *, progress: Progress | None = None, slow_checks: bool = True
    ) -> BenchReport:
        """Measure all candidates in interleaved rounds, in several successive processes each, and check them.

        Ctrl-C stops the run; the report then contains the completed rounds. If there are none, it propagates.

        Args:
            environment: The machine, described before the candidates were opened.
            progress: Called after each round with (rounds done, rounds).
            slow_checks: Also measure overhead, power and accuracy.

        Raises:
            ProcessFailed: All candidates failed.
        """
        options = self._options
        background = BackgroundLoad(lambda: read_sensors(gpu=self._gpu))
        checks = PostRunChecks(
            self._records.running, labelled=self._inputs.labelled, held_out=options.held_out, gpu=self._gpu
        )
        count_round = counter(options.rounds, progress)
        interrupted = False
        done = 0
        try:
            for rounds in options.rounds_by_process:
                if done:
                    self._restart()
                interrupted = self._run_rounds(rounds, done, background, count_round)
                if not done:
                    checks.run_essential()
                if interrupted:
                    break
                done += rounds
            else:
                if slow_checks:
                    checks.run_slow()
        except KeyboardInterrupt:
            if not any(record.runs for record in self._records.running.values()):
                raise
            interrupted = True
        return self._report(environment, background, interrupted)

    def _report(self, environment: Environment, background: BackgroundLoad, interrupted: bool) -> BenchReport:
        options, records = self._options, self._records.ordered()
        conditions = RunConditions(
            rounds=options.rounds,
            calls_per_round=options.calls_per_round,
            processes=len(options.rounds_by_process),
            priming_calls=PRIMING_CALLS,
            allocator=allocator(),
            interrupted=interrupted,
            others_cores=background.others_cores,
            stolen_cores=background.stolen_cores,
            readings=tuple(background.readings),
        )
        return build_report(
            [record.row() for record in records],
            environment,
            baseline_of={r.name: r.baseline for r in records if r.baseline is not None},
            failed=list(self._records.failed.values()),
            conditions=conditions,
        )

    def _restart(self) -> None:
        """Replace each candidate's process, so that chance effects of a single one, like memory layout, average out."""
        for record in self._records.running.values():
            record.process.close()
        for record in list(self._records.running.values()):
            process = self._started(record.process.candidate)
            try:
                process.open()
                process.bind(record.inputs_file)
            except CandidateFailed as error:
                process.close()
                self._records.drop(record, error)
            else:
                record.process = process
                record.cold_starts_ms.append(process.cold_start_ms)
        self._records.check_some_left()

    def _run_rounds(self, rounds: int, done: int, background: BackgroundLoad, count_round: Callable[[], None]) -> bool:
        """Warm up and time the current processes; return whether Ctrl-C stopped the rounds."""
        warm_ups = self._warm_up()

        def after_round(*_: int) -> None:
            background.sample()
            count_round()

        background.begin()
        found = interleave(
            {record.name: record.process for record in self._records.ordered()},
            rounds=rounds,
            calls_per_round=self._options.calls_per_round,
            before=done,
            progress=after_round,
        )
        complete = not found.failed and not found.interrupted
        cpu_ns = sum(calls.cpu_ns for timed_rounds in found.rounds.values() for calls in timed_rounds)
        background.end(cpu_ns / 1e9 if complete else None)
        for name, error in found.failed.items():
            self._records.drop(self._records.running[name], error)
        self._records.check_some_left()
        for name, timed_rounds in found.rounds.items():
            self._records.running[name].runs.append((warm_ups[name], timed_rounds))
        return found.interrupted

    def _warm_up(self) -> dict[str, tuple[int, ...]]:
        """Warm up all candidates; return their latencies in ns by name."""
        found = {}
        for record in self._records.ordered():
            try:
                found[record.name] = warm_up(record.process)
            except ProcessFailed as error:
                self._records.drop(record, error)
        self._records.check_some_left()
        return found

    def _gpu_memory_mib(self) -> float | None:
        return read_sensors(gpu=True).gpu_memory_mib if self._gpu else None

    def close(self) -> None:
        """Close all processes."""
        self._stack.close()

    def __enter__(self) -> BenchmarkSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _size_of(candidate: Candidate) -> int | None:
    """Return the size of a model file in bytes; None for a pipeline, whose file is a clip."""
    is_model = candidate.level is not Level.PIPELINE and candidate.path.is_file()
    if not is_model:
        return None
    checkpoint = candidate.path.suffix.lower() == ".pt"
    return candidate.path.stat().st_size if checkpoint else ModelFile.of(candidate.path).size_bytes
