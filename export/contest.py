"""The candidates of one benchmark: opened one after the other, measured in turns, examined when the clock is off."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from ..bench.accuracy import Accuracy
from ..bench.environment import Environment
from ..bench.foreign import GIVEN, open_model
from ..bench.job import Job, name_of, save_arrays
from ..bench.measure import (
    Description,
    Level,
    Measurement,
    Rounds,
    check_counts,
    check_pictures,
    interleave,
    warm_up,
)
from ..bench.parity import ParityGate
from ..bench.processes import LEAD_IN, Bound, CandidateLost, CandidateProcess, Loss, Opened, RemoteRunner
from ..bench.report import BenchReport, Course, Details, Facts, Lost, build_report
from ..bench.sensors import Reading, board_power_w, has_nvidia_smi, read_sensors
from ..bench.subjects import open_pipeline
from ..runtime.errors import CheckFailed, InputError, ProcessLost
from ..runtime.runner import Precision
from ..runtime.spec import ModelSpec, Task
from ..runtime.values import Image
from .accuracy import accuracy_of, folder_for
from .parity_gate import compare
from .samples import sample_batch, sample_pictures, sample_portraits

if TYPE_CHECKING:
    from .benchmark import BenchOptions

log = logging.getLogger("mien")

INPUTS = 8
"""Different inputs that the calls take in turns."""
WARM_UP_CALLS = 200
POWER_S = 3.0
"""How long a candidate runs without a pause for its power to be read."""
POWER_EVERY_S = 0.05
YARDSTICK = Path()
"""In place of a checkpoint: the yardstick's own weights."""
_OPENERS = {"eager": "open_eager", "channels-last": "open_channels_last", "compile": "open_compiled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A candidate to be. file: as the user named it. device: a provider, or PyTorch's name of a device.

    baseline: how PyTorch is to run the checkpoint `path`; empty for a candidate on a provider.
    """

    model: str
    file: str
    path: Path
    device: str
    level: Level = Level.MODEL
    batch: int = 1
    baseline: str = ""
    models: Mapping[str, str] = field(default_factory=dict)

    def job(self, threads: int) -> Job:
        """What its process is told."""
        if self.baseline:
            opener = f"mien.export.eager_subjects:{_OPENERS[self.baseline]}"  # torch must not be imported for its name
        else:
            opener = name_of(open_pipeline if self.level is Level.PIPELINE else open_model)
        return Job(
            opener=opener,
            path="" if self.path == YARDSTICK else str(self.path),
            device=self.device,
            threads=threads,
            level=self.level,
            batch=self.batch,
            models=self.models,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate whose process is open and has its inputs.

    images: of a model of mien, for its parity (n, h, w, 3). device_mib: by which the GPU's used memory has grown.
    """

    plan: Plan
    description: Description
    process: CandidateProcess
    opened: Opened
    bound: Bound
    images: Image | None
    device_mib: float | None

    @property
    def name(self) -> str:
        """Unique within the report."""
        return self.description.name

    @property
    def runner(self) -> RemoteRunner:
        """To ask the process for outputs; only for a model of mien."""
        return RemoteRunner(self.process, self.opened)


class Contest:
    """Owns the processes of a benchmark. Enter the candidates, then `measure` once."""

    def __init__(self, options: BenchOptions, folder: Path) -> None:
        check_counts(rounds=options.rounds, calls_per_round=options.calls_per_round, warm_up_calls=WARM_UP_CALLS)
        self._options = options
        self._folder = folder
        self._stack = ExitStack()
        self._gpu = has_nvidia_smi()
        self._entries: dict[str, Entry] = {}
        self._lost: list[Lost] = []
        self._baseline_of: dict[str, str] = {}
        self._baselines: dict[tuple[Path, str, str, Level, int], str] = {}
        self._facts: dict[str, Facts] = {}
        self._parities: dict[str, ParityGate] = {}
        self._accuracies: dict[str, Accuracy] = {}

    def enter(self, plan: Plan) -> Entry | None:
        """Open a candidate; None if it could not be, which is noted, or is there already under its name."""
        used_before = self._gpu_memory_mib()
        process = CandidateProcess(plan.job(self._options.threads), timeout_s=self._options.timeout_s)
        self._stack.callback(process.close)
        opened = None
        try:
            opened = process.open()
            if opened.spec is None and plan.level is Level.PICTURE:
                process.close()  # nobody knows what a foreign file wants of a picture
                return None
            material, images = self._material(plan, opened)
            bound = process.bind(material)
        except CandidateLost as error:
            log.warning("%s on %s is lost: %s", plan.model, plan.device, error)
            self._lost.append(Lost(self._described(plan, opened, None), error.loss, error.reason))
            process.close()
            return None
        used = self._gpu_memory_mib()
        grown = None if used is None or used_before is None else used - used_before
        entry = Entry(plan, self._described(plan, opened, bound), process, opened, bound, images, grown)
        if entry.name in self._entries:
            log.warning("%s is measured already: %s has become %s", entry.name, plan.device, opened.provider)
            process.close()
            return None
        self._entries[entry.name] = entry
        return entry

    def add_baselines(self, entry: Entry, checkpoint: Path) -> None:
        """Open the baselines of a candidate on its kind of device; the first is what ratios are to.

        Files of the same weights, as fp32 and int8, share them.
        """
        device = "cpu" if entry.opened.provider == "cpu" else "cuda"  # whatever runs on no CPU runs on NVIDIA's GPU
        names = []
        for kind in self._options.baselines:
            plan = replace(entry.plan, path=checkpoint, device=device, baseline=kind)
            known = (checkpoint, device, kind, plan.level, plan.batch)
            if known not in self._baselines:
                self._baselines[known] = _name(plan, f"{kind}-{device}", Precision.FP32)
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

    def measure(self, environment: Environment, *, progress: Callable[[int, int], None] | None = None) -> BenchReport:
        """Warm up, measure in turns, examine.

        Raises:
            ProcessLost: no candidate is left.
        """
        options = self._options
        warm_ups = self._warm_ups()
        readings = [read_sensors(gpu=self._gpu)]
        own_begun, begun = time.process_time(), time.perf_counter()

        def after_a_round(done: int, rounds: int) -> None:
            readings.append(read_sensors(gpu=self._gpu))
            if progress is not None:
                progress(done, rounds)

        lanes = {name: entry.process for name, entry in self._in_turn().items()}
        rounds = interleave(
            lanes, rounds=options.rounds, calls_per_round=options.calls_per_round, progress=after_a_round
        )
        elapsed_s, own_s = time.perf_counter() - begun, time.process_time() - own_begun
        for name, error in rounds.lost.items():
            self._lose(name, error)
        self._check_some_left()
        interrupted = not self._examine(in_a_hurry=rounds.interrupted) or rounds.interrupted
        course = self._course(rounds, readings, elapsed_s=elapsed_s, own_s=own_s, interrupted=interrupted)
        return self._report(rounds, warm_ups, environment, course)

    def _examine(self, *, in_a_hurry: bool) -> bool:
        """Everything that is not timed in turns; false when Ctrl-C ended it. Without parity there is no ratio."""
        steps = [self._note_memory, self._check_parities]
        if not in_a_hurry:
            steps += [self._note_own_costs, self._note_powers, self._note_accuracies]
        try:
            for step in steps:
                step()
        except KeyboardInterrupt:
            return False
        return True

    def _report(
        self, rounds: Rounds, warm_ups: Mapping[str, tuple[int, ...]], environment: Environment, course: Course
    ) -> BenchReport:
        measurements, details = [], {}
        for name, turns in rounds.turns.items():
            latencies = tuple(turn.calls_ns for turn in turns)
            on_device = tuple(turn.device_ns for turn in turns if turn.device_ns)
            measurements.append(Measurement(self._entries[name].description, warm_ups[name], latencies, on_device))
            stages: dict[str, tuple[int, ...]] = {}
            for turn in turns:
                for stage, durations in turn.stages_ns.items():
                    stages[stage] = stages.get(stage, ()) + durations
            facts = replace(self._facts[name], preemptions=sum(turn.preemptions for turn in turns))
            details[name] = Details(facts, self._accuracies.get(name), stages)
        return build_report(
            measurements,
            environment,
            baseline_of={name: base for name, base in self._baseline_of.items() if name in rounds.turns},
            parities=self._parities,
            details=details,
            lost=self._lost,
            course=course,
        )

    def _course(
        self, rounds: Rounds, readings: list[Reading], *, elapsed_s: float, own_s: float, interrupted: bool
    ) -> Course:
        """How the run went; what other processes used is all use but that of the candidates and of this one."""
        candidates_s = sum(turn.cpu_ns for turns in rounds.turns.values() for turn in turns) / 1e9
        first, last = readings[0], readings[-1]
        others = stolen = None
        if first.busy_s is not None and last.busy_s is not None and not rounds.lost and not rounds.interrupted:
            others = max(0.0, last.busy_s - first.busy_s - candidates_s - own_s) / elapsed_s
        if first.stolen_s is not None and last.stolen_s is not None:
            stolen = (last.stolen_s - first.stolen_s) / elapsed_s
        return Course(
            rounds=self._options.rounds,
            calls_per_round=self._options.calls_per_round,
            lead_in=LEAD_IN,
            interrupted=interrupted,
            others_cores=others,
            stolen_cores=stolen,
            readings=tuple(readings),
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
            except ProcessLost as error:
                self._lose(name, error)
        self._check_some_left()
        return found

    def _lose(self, name: str, error: ProcessLost) -> None:
        entry = self._entries.pop(name)
        loss = error.loss if isinstance(error, CandidateLost) else Loss.CRASHED
        reason = error.reason if isinstance(error, CandidateLost) else str(error)
        log.warning("%s is lost: %s", name, error)
        self._lost.append(Lost(entry.description, loss, reason))
        entry.process.close()

    def _check_some_left(self) -> None:
        if not self._entries:
            told = "; ".join(f"{one.description}: {one.loss.value} ({one.reason})" for one in self._lost)
            raise ProcessLost(f"no candidate could be measured: {told}")

    def _each(self, step: Callable[[Entry], None], entries: Iterable[Entry]) -> None:
        """Examine candidates; one whose process is lost meanwhile keeps what was measured."""
        for entry in entries:
            try:
                step(entry)
            except ProcessLost as error:
                log.warning("%s was measured, but is lost since: %s", entry.name, error)

    def _note_memory(self) -> None:
        for entry in self._entries.values():  # what was known before, for all, should a process be lost meanwhile
            bound, opened = entry.bound, entry.opened
            self._facts[entry.name] = Facts(
                file=entry.plan.file,
                size_bytes=_size_of(entry.plan),
                import_ms=opened.import_ms,
                load_ms=opened.load_ms,
                first_ms=bound.first_ms,
                device_mib=entry.device_mib,
                inputs=bound.note,
            )

        def note(entry: Entry) -> None:
            self._facts[entry.name] = replace(self._facts[entry.name], peak_mib=entry.process.peak_mib())

        self._each(note, self._entries.values())

    def _check_parities(self) -> None:
        def check(entry: Entry) -> None:
            base = self._entries.get(self._baseline_of.get(entry.name, ""))
            if base is not None and entry.images is not None:
                try:
                    self._parities[entry.name] = compare(base.runner, entry.runner, entry.images)
                except CheckFailed as error:  # an output that is missing or has another shape
                    log.warning("%s: %s", entry.name, error)
                    self._parities[entry.name] = ParityGate(())

        self._each(check, self._entries.values())

    def _note_own_costs(self) -> None:
        def note(entry: Entry) -> None:
            cost, nodes = entry.process.own_cost()
            facts = self._facts[entry.name]
            if cost is not None:
                facts = replace(facts, own_cost_us=cost[0], bare_us=cost[1])
            if nodes is not None:
                facts = replace(facts, nodes_on_provider=nodes[0], nodes=nodes[1])
            self._facts[entry.name] = facts

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
                self._facts[entry.name] = replace(self._facts[entry.name], power_w=power_w, energy_mj=energy_mj)

        self._each(note, self._entries.values())

    def _note_accuracies(self) -> None:
        """Of every artifact on every provider once, and of the baselines that others are compared with."""
        known: dict[tuple[Path, str], Accuracy] = {}
        bases = set(self._baseline_of.values())

        def note(entry: Entry) -> None:
            spec = entry.opened.spec
            folder = None if spec is None else folder_for(spec.task, self._options.data)
            if folder is None or (entry.plan.baseline and entry.name not in bases):
                return
            key = (entry.plan.path, entry.opened.provider)
            if key not in known:
                log.info("accuracy of %s on %s", entry.name, folder.name)
                try:
                    known[key] = accuracy_of(entry.runner, folder, held_out=self._options.held_out)
                except InputError as error:  # no reason to throw away what was measured
                    log.warning("no accuracy of %s: %s", entry.name, error)
                    return
            self._accuracies[entry.name] = known[key]

        self._each(note, self._entries.values())

    def _gpu_memory_mib(self) -> float | None:
        return read_sensors(gpu=True).gpu_memory_mib if self._gpu else None

    def _described(self, plan: Plan, opened: Opened | None, bound: Bound | None) -> Description:
        """What is known of a candidate so far; one that could not be opened bears what was asked for."""
        asked = f"{plan.baseline}-{plan.device}" if plan.baseline else plan.device
        provider = asked if opened is None else opened.provider
        precision = Precision.FP32 if plan.baseline else None if opened is None else opened.precision
        task = "pipeline" if plan.level is Level.PIPELINE else ""
        if opened is not None and opened.spec is not None:
            task = opened.spec.task.value
        return Description(
            name=_name(plan, provider, precision),
            model=plan.model,
            precision=precision,
            provider=provider,
            batch=plan.batch,
            threads=self._options.threads,
            inputs_digest="" if bound is None else bound.digest,
            task=task,
            level=plan.level,
        )

    def _material(self, plan: Plan, opened: Opened) -> tuple[Path | None, Image | None]:
        """The inputs of a candidate as a file, and the images that parity is taken on."""
        if plan.level is Level.PIPELINE:
            return None, None
        if opened.spec is None:
            return self._foreign_material(), None
        batches = self._batches(opened.spec, plan.batch)
        path = self._folder / f"{plan.level.value}-{_key(opened.spec)}-{plan.batch}.npz"
        if not path.is_file():
            if plan.level is Level.PICTURE:
                found = sample_portraits(INPUTS, data=self._folder_of(opened.spec))
                pictures = {f"picture_{i}": picture for i, picture in enumerate(found.pictures)}
                save_arrays(path, {"bounds": found.bounds, "landmarks": found.landmarks, **pictures})
            else:
                save_arrays(path, {"inputs": batches})
        return path, batches.reshape(-1, *batches.shape[2:])

    def _batches(self, spec: ModelSpec, batch: int) -> Image:
        """Inputs (INPUTS, b, h, w, 3) for a model."""
        data = self._folder_of(spec)
        batches = np.stack([sample_batch(spec, batch, data=data, seed=i) for i in range(INPUTS)])
        check_pictures(list(batches))
        return batches

    def _folder_of(self, spec: ModelSpec) -> Path | None:
        """Where a model's inputs come from: the folder with its labels, else the first."""
        found = folder_for(spec.task, self._options.data)
        return found if found is not None else next(iter(self._options.data), None)

    def _foreign_material(self) -> Path:
        path = self._folder / "foreign.npz"
        if not path.is_file():
            if self._options.feed is not None:
                save_arrays(path, {f"{GIVEN}{name}": a for name, a in _read_feed(self._options.feed).items()})
            else:
                pictures = sample_pictures(INPUTS, data=next(iter(self._options.data), None))
                save_arrays(path, {f"picture_{i}": picture for i, picture in enumerate(pictures)})
        return path

    def close(self) -> None:
        """End every process."""
        self._stack.close()

    def __enter__(self) -> Contest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _name(plan: Plan, provider: str, precision: Precision | None) -> str:
    """Unique within a report, and the same in the next one."""
    if plan.level is Level.PIPELINE:
        return f"{plan.model}/{provider}"
    level = "" if plan.level is Level.MODEL else f"/{plan.level.value}"
    return f"{plan.model}/{provider}/{precision.value if precision is not None else 'unknown'}/{plan.batch}{level}"


def _size_of(plan: Plan) -> int | None:
    """Of the file that holds the model; a pipeline's is a clip."""
    return plan.path.stat().st_size if plan.path.is_file() and plan.level is not Level.PIPELINE else None


def _key(spec: ModelSpec) -> str:
    """Models of one task that take the same crops share their inputs."""
    return f"{spec.task.value}-{spec.input_size[0]}x{spec.input_size[1]}-{spec.crop_scale:g}"


def _read_feed(path: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is no .npz file of arrays ({error}); write one with numpy.savez") from error
