"""A candidate of a benchmark: what is to be opened, and what is known of it once its process is open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from statistics import median

from mien.bench.timing.measurement import Description, Level
from mien.bench.worker.candidate import Job, name_of
from mien.bench.worker.foreign import open_foreign
from mien.bench.worker.process import Bound, CandidateProcess, Opened, RemoteRunner
from mien.bench.worker.targets import open_model, open_pipeline
from mien.runtime.models.spec import Precision
from mien.runtime.values import Image

REFERENCE_NETWORK = Path()
"""In place of a checkpoint: the yardstick's own weights."""


class Baseline(str, Enum):
    """How PyTorch is asked to run a network."""

    EAGER = "eager"
    """As it is called by those who do nothing about it."""
    CHANNELS_LAST = "channels-last"
    """With weights and activations as NHWC in memory."""
    COMPILE = "compile"
    """Through torch.compile, which needs a C++ compiler on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A candidate to be. file: as the user named it. device: a provider, or PyTorch's name of a device.

    baseline: how PyTorch is to run the checkpoint `path`, a `Baseline`'s value; empty for a candidate on a provider.
    opener: of a baseline, as the bridge names it.
    foreign: without mien's metadata.
    """

    model: str
    file: str
    path: Path
    device: str
    level: Level = Level.MODEL
    batch: int = 1
    baseline: str = ""
    opener: str = ""
    foreign: bool = False
    models: Mapping[str, str] = field(default_factory=dict)

    def job(self, threads: int) -> Job:
        """What its process is told."""
        if self.baseline:
            opener = self.opener
        else:
            pipeline = self.level is Level.PIPELINE
            opener = name_of(open_pipeline if pipeline else open_foreign if self.foreign else open_model)
        return Job(
            opener=opener,
            path="" if self.path == REFERENCE_NETWORK else str(self.path),
            device=self.device,
            threads=threads,
            level=self.level,
            batch=self.batch,
            models=self.models,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate whose process is open and has its inputs.

    material: its inputs, a file. images: of a model of mien, for its parity (n, h, w, 3). inputs: what is to be said of
    them. device_mib: by which the GPU's used memory has grown. cold_starts_ms: import, load and first call by process.
    """

    plan: Plan
    description: Description
    process: CandidateProcess
    opened: Opened
    material: Path | None
    images: Image | None
    inputs: str
    device_mib: float | None
    cold_starts_ms: tuple[tuple[float, float, float], ...]

    @property
    def name(self) -> str:
        """Unique within the report."""
        return self.description.name

    @property
    def cold_start_ms(self) -> tuple[float, float, float]:
        """Import, load and first call, each the median of the processes."""
        imports, loads, firsts = (median(column) for column in zip(*self.cold_starts_ms, strict=True))
        return imports, loads, firsts

    def restarted(self, process: CandidateProcess, opened: Opened, bound: Bound) -> Entry:
        """The same candidate in another process."""
        return replace(
            self, process=process, opened=opened, cold_starts_ms=(*self.cold_starts_ms, cold_start(opened, bound))
        )

    @property
    def runner(self) -> RemoteRunner:
        """To ask the process for outputs; only for a model of mien."""
        return RemoteRunner(self.process, self.opened)


def cold_start(opened: Opened, bound: Bound) -> tuple[float, float, float]:
    """Import, load and first call in ms."""
    return opened.import_ms, opened.load_ms, bound.first_ms


def describe(plan: Plan, opened: Opened | None, bound: Bound | None, *, threads: int) -> Description:
    """What is known of a candidate so far; one that could not be opened bears what was asked for."""
    asked = f"{plan.baseline}-{plan.device}" if plan.baseline else plan.device
    provider = asked if opened is None else opened.provider
    precision = Precision.FP32 if plan.baseline else None if opened is None else opened.precision
    if bound is not None:
        plan = replace(plan, batch=bound.batch)  # a foreign file's may be fixed
    task = "pipeline" if plan.level is Level.PIPELINE else ""
    if opened is not None and opened.spec is not None:
        task = opened.spec.task.value
    return Description(
        name=candidate_name(plan, provider, precision),
        model=plan.model,
        precision=precision,
        provider=provider,
        batch=plan.batch,
        threads=threads,
        inputs_digest="" if bound is None else bound.digest,
        task=task,
        level=plan.level,
    )


def candidate_name(plan: Plan, provider: str, precision: Precision | None) -> str:
    """Unique within a report, and the same in the next one."""
    if plan.level is Level.PIPELINE:
        return f"{plan.model}/{provider}"
    level = "" if plan.level is Level.MODEL else f"/{plan.level.value}"
    return f"{plan.model}/{provider}/{precision.value if precision is not None else 'unknown'}/{plan.batch}{level}"
