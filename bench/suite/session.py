"""The candidates of one benchmark: opened one after the other, measured in turns, examined when the clock is off."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from mien.bench.bridge import PyTorchBridge
from mien.bench.report.report import NO_METADATA, BenchReport, Details, FailedCandidate, RunConditions, build_report
from mien.bench.suite.candidates import Entry, Plan, candidate_name, cold_start, describe
from mien.bench.suite.inputs import BenchInputs
from mien.bench.suite.post_checks import PostRunChecks
from mien.bench.timing.background_load import BackgroundLoad
from mien.bench.timing.environment import Environment
from mien.bench.timing.interleave import TimedCalls, check_counts, interleave, process_run, warm_up
from mien.bench.timing.measurement import Description, Level, Measurement
from mien.bench.timing.sensors import has_nvidia_smi, read_sensors
from mien.bench.worker.candidate import Job
from mien.bench.worker.process import (
    DEFAULT_TIMEOUT_S,
    CandidateFailed,
    CandidateProcess,
    FailureKind,
    Opened,
    allocator,
)
from mien.bench.worker.targets import PRIMING_CALLS
from mien.runtime.batch.parallel import counter
from mien.runtime.errors import ProcessFailed
from mien.runtime.faces.stage_timer import STAGES
from mien.runtime.models.runner import Provider
from mien.runtime.models.spec import Precision, Task
from mien.runtime.values import Image, Progress

log = logging.getLogger("mien")

WARM_UP_CALLS = 200


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure.

    rounds: in all, shared out to the processes: so often every candidate's process begins anew.
    baselines: how PyTorch is asked to run the same weights (`Baseline`'s values); ratios are taken to the first.
    yardstick: also mobilenet_v2 at 224 px. data: folders that inputs and labels come from; accuracy is measured where
    they hold the task's labels, held_out: only on what training keeps out. clip: a video for the whole pipeline. feed:
    arrays (.npz) for a foreign file. timeout_s: how long a process may take to answer before it counts as hung.
    """

    batches: tuple[int, ...] = (1,)
    threads: int = 1
    rounds: int = 20
    calls_per_round: int = 10
    processes: int = 5
    baselines: tuple[str, ...] = ("eager",)
    reference_model: bool = False
    providers: tuple[Provider, ...] = (Provider.CPU,)
    levels: tuple[Level, ...] = (Level.MODEL,)
    data: tuple[Path, ...] = ()
    held_out: bool = False
    clip: Path | None = None
    feed: Path | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S


class BenchmarkSession:
    """Owns the processes of a benchmark. Enter the candidates, then `measure` once."""

    def __init__(self, options: BenchOptions, folder: Path) -> None:
        check_counts(rounds=options.rounds, calls_per_round=options.calls_per_round, warm_up_calls=WARM_UP_CALLS)
        self._options = options
        self._inputs = BenchInputs(folder, data=options.data, feed=options.feed)
        self._stack = ExitStack()
        self._gpu = has_nvidia_smi()
        self._entries: dict[str, Entry] = {}
        self._failed: dict[str, FailedCandidate] = {}
        self._runs: dict[str, list[tuple[tuple[int, ...], tuple[TimedCalls, ...]]]] = {}
        """Warm-up and turns of each process, by candidate."""
        self._baseline_of: dict[str, str] = {}
        self._baselines: dict[tuple[Path, str, str, Level, int], str] = {}

    def enter(self, plan: Plan) -> Entry | None:
        """Open a candidate; None if it could not be, which is noted, or is there already under its name."""
        used_before = self._gpu_memory_mib()
        threads = self._options.threads
        process = opened = None
        try:
            process, opened = self._opened(plan)
            if opened.spec is None and plan.level is Level.PICTURE:
                raise CandidateFailed(FailureKind.REFUSED, "nobody knows what a foreign file wants of a picture")
            material, images = self._material(plan, opened)
            bound = process.bind(material)
        except CandidateFailed as error:
            self._note_failure(describe(plan, opened, None, threads=threads), error)
            if process is not None:
                process.close()
            return None
        used = self._gpu_memory_mib()
        grown = None if used is None or used_before is None else used - used_before
        described = describe(plan, opened, bound, threads=threads)
        if described.name in self._entries:
            log.warning("%s is measured already: %s has become %s", described.name, plan.device, opened.provider)
            process.close()
            return None
        self._failed.pop(described.name, None)  # by another way to the same name
        starts = (cold_start(opened, bound),)
        self._entries[described.name] = Entry(
            plan, described, process, opened, material, images, bound.note, grown, starts
        )
        return self._entries[described.name]

    def _opened(self, plan: Plan) -> tuple[CandidateProcess, Opened]:
        """Open a candidate in a new process; a file that is refused as one of mien's may be somebody else's."""
        process = self._started(plan.job(self._options.threads))
        try:
            return process, process.open()
        except CandidateFailed as error:
            process.close()
            if (
                error.failure is not FailureKind.REFUSED
                or plan.foreign
                or plan.baseline
                or plan.level is Level.PIPELINE
            ):
                raise
            try:
                return self._opened(replace(plan, foreign=True))
            except CandidateFailed:
                raise error from None

    def _started(self, job: Job) -> CandidateProcess:
        process = CandidateProcess(job, timeout_s=self._options.timeout_s)
        self._stack.callback(process.close)
        return process

    def add_baselines(self, entry: Entry, checkpoint: Path, bridge: PyTorchBridge) -> None:
        """Open the baselines of a candidate on its kind of device; the first is what ratios are to.

        Files of the same weights, as fp32 and int8, share them.
        """
        device = "cpu" if entry.opened.provider == "cpu" else "cuda"  # whatever runs on no CPU runs on NVIDIA's GPU
        names = []
        for kind in self._options.baselines:
            opener = bridge.opener(kind)
            plan = replace(entry.plan, path=checkpoint, device=device, baseline=kind, opener=opener)
            known = (checkpoint, device, kind, plan.level, plan.batch)
            if known not in self._baselines:
                self._baselines[known] = candidate_name(plan, f"{kind}-{device}", Precision.FP32)
                self.enter(plan)
            names.append(self._baselines[known])
        for name in [entry.name, *names[1:]]:
            if name in self._entries:
                self._baseline_of[name] = names[0]

    def models_by_task(self) -> dict[str, str]:
        """Files of the candidates by their task, the first of each, for a pipeline."""
        found: dict[str, str] = {}
        for entry in self._entries.values():
            spec = entry.opened.spec
            if spec is not None and not entry.plan.baseline and spec.task is not Task.CLASSIFY:
                found.setdefault(spec.task.value, str(entry.plan.path))
        return found

    def measure(self, environment: Environment, *, progress: Progress | None = None) -> BenchReport:
        """Start, warm up and measure in turns, as often as was asked for, and examine.

        Ctrl-C ends it; what is complete by then makes a report, if it is a round.

        Raises:
            ProcessFailed: no candidate is left.
        """
        options = self._options
        load = BackgroundLoad(lambda: read_sensors(gpu=self._gpu))
        found = PostRunChecks(
            self._entries, self._baseline_of, data=options.data, held_out=options.held_out, gpu=self._gpu
        )
        tick = counter(options.rounds, progress)
        processes = shares(options.rounds, options.processes)
        interrupted = False
        done = 0
        try:
            for rounds in processes:
                if done:
                    self._restart()
                interrupted = self._measure_processes(rounds, done, load, tick)
                if not done:
                    found.look()
                if interrupted:
                    break
                done += rounds
            else:
                found.look_closely()
        except KeyboardInterrupt:
            if not self._runs:
                raise
            interrupted = True
        conditions = RunConditions(
            rounds=options.rounds,
            calls_per_round=options.calls_per_round,
            processes=len(processes),
            priming_calls=PRIMING_CALLS,
            allocator=allocator(),
            interrupted=interrupted,
            others_cores=load.others_cores,
            stolen_cores=load.stolen_cores,
            readings=tuple(load.readings),
        )
        return self._report(environment, conditions, found)

    def _restart(self) -> None:
        """Begin every process anew: what one of them happened to get, as its place in memory, must not decide."""
        for entry in self._entries.values():
            entry.process.close()
        for name, entry in list(self._entries.items()):
            process = self._started(entry.process.job)
            try:
                self._entries[name] = entry.restarted(process, process.open(), process.bind(entry.material))
            except CandidateFailed as error:
                process.close()
                self._drop(name, error)
        self._check_some_left()

    def _measure_processes(self, rounds: int, before: int, load: BackgroundLoad, tick: Callable[[], None]) -> bool:
        """Warm up and measure in turns, behind the rounds of earlier processes; whether Ctrl-C ended it."""
        warm_ups = self._warm_ups()

        def after_a_round(*_: int) -> None:
            load.look()
            tick()

        load.begin()
        lanes = {name: entry.process for name, entry in self._in_turn().items()}
        taken = interleave(
            lanes, rounds=rounds, calls_per_round=self._options.calls_per_round, before=before, progress=after_a_round
        )
        complete = not taken.failed and not taken.interrupted
        load.end(sum(turn.cpu_ns for turns in taken.turns.values() for turn in turns) / 1e9 if complete else None)
        for name, error in taken.failed.items():
            self._drop(name, error)
        self._check_some_left()
        for name, turns in taken.turns.items():
            self._runs.setdefault(name, []).append((warm_ups[name], turns))
        return taken.interrupted

    def _report(self, environment: Environment, conditions: RunConditions, found: PostRunChecks) -> BenchReport:
        measurements, details = [], {}
        for name, entry in self._in_turn().items():
            processes = tuple(process_run(warm_up_ns, turns) for warm_up_ns, turns in self._runs[name])
            measurements.append(Measurement(entry.description, processes))
            turns = [turn for _, turns in self._runs[name] for turn in turns]
            taken = {stage: tuple(ns for turn in turns for ns in turn.stages_ns.get(stage, ())) for stage in STAGES}
            stages = {stage: durations for stage, durations in taken.items() if durations}
            import_ms, load_ms, first_ms = entry.cold_start_ms
            metadata = replace(
                found.metadata.get(name, NO_METADATA),
                import_ms=import_ms,
                load_ms=load_ms,
                first_ms=first_ms,
                preemptions=sum(turn.preemptions for turn in turns),
            )
            details[name] = Details(metadata, found.accuracies.get(name), stages)
        return build_report(
            measurements,
            environment,
            baseline_of={name: base for name, base in self._baseline_of.items() if name in self._entries},
            parities=found.parities,
            details=details,
            failed=list(self._failed.values()),
            conditions=conditions,
        )

    def _in_turn(self) -> dict[str, Entry]:
        """The candidates that are left, each behind its baseline."""
        ordered: dict[str, Entry] = {}
        for name, entry in self._entries.items():
            base = self._baseline_of.get(name)
            if base is not None and base in self._entries:
                ordered[base] = self._entries[base]
            ordered[name] = entry
        return ordered

    def _warm_ups(self) -> dict[str, tuple[int, ...]]:
        found = {}
        for name, entry in self._in_turn().items():
            try:
                found[name] = warm_up(entry.process, limit=WARM_UP_CALLS)
            except ProcessFailed as error:
                self._drop(name, error)
        self._check_some_left()
        return found

    def _drop(self, name: str, error: ProcessFailed) -> None:
        entry = self._entries.pop(name)
        self._note_failure(entry.description, error)
        entry.process.close()

    def _note_failure(self, described: Description, error: ProcessFailed) -> None:
        """Note a candidate as lost, unless another way to its name, as `auto`, is measured or lost already."""
        log.warning("%s is lost: %s", described, error)
        failure = error.failure if isinstance(error, CandidateFailed) else FailureKind.CRASHED
        reason = error.reason if isinstance(error, CandidateFailed) else str(error)
        if described.name not in self._entries:
            self._failed.setdefault(described.name, FailedCandidate(described, failure, reason))

    def _check_some_left(self) -> None:
        if not self._entries:
            told = "; ".join(f"{one.description}: {one.failure.value} ({one.reason})" for one in self._failed.values())
            raise ProcessFailed(f"no candidate could be measured: {told}")

    def _gpu_memory_mib(self) -> float | None:
        return read_sensors(gpu=True).gpu_memory_mib if self._gpu else None

    def _material(self, plan: Plan, opened: Opened) -> tuple[Path | None, Image | None]:
        """The inputs of a candidate as a file, and the images that parity is taken on."""
        if plan.level is Level.PIPELINE:
            return None, None
        if opened.spec is None:
            return self._inputs.foreign_file(), None
        return self._inputs.file(opened.spec, plan.level, plan.batch), self._inputs.images(opened.spec, plan.batch)

    def close(self) -> None:
        """End every process."""
        self._stack.close()

    def __enter__(self) -> BenchmarkSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def shares(rounds: int, processes: int) -> list[int]:
    """Rounds of each process, as even as can be; there are not more processes than rounds."""
    count = min(rounds, processes)
    return [rounds // count + (i < rounds % count) for i in range(count)]
