"""Names and descriptions of candidates, and the record that a session keeps of each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from ...runtime.models.spec import Precision
from ...runtime.stage_timer import STAGES
from ...runtime.values import Image
from ..accuracy.accuracy import Accuracy
from ..parity.parity import ParityGate
from ..report.report import CandidateMetadata, Row
from ..timing.interleave import TimedCalls, process_run
from ..timing.measurement import Description, Level, Measurement
from ..worker.candidate import Candidate
from ..worker.process import CandidateProcess
from .options import Baseline


@dataclass(slots=True)
class CandidateRecord:
    """All that a session knows about a running candidate.

    Attributes:
        candidate: The candidate as requested.
        description: What it turned out to be, for instance which provider `auto` chose.
        process: Its current process, with inputs bound.
        inputs_file: File with its inputs; None for a pipeline.
        images: Images (n, h, w, 3) for its parity check; None for a pipeline or a foreign model.
        metadata: Facts besides its latency.
        cold_starts_ms: Times of import, load and first call of each process that was opened alone.
        runs: Warm-up latencies in ns and timed rounds of each process.
        baseline: Name of the candidate that it is compared with.
        parity: Parity with the baseline; None until checked.
        accuracy: Accuracy on labelled data; None until measured.
    """

    candidate: Candidate
    description: Description
    process: CandidateProcess
    inputs_file: Path | None
    images: Image | None
    metadata: CandidateMetadata
    cold_starts_ms: list[tuple[float, float, float]] = field(default_factory=list)
    runs: list[tuple[tuple[int, ...], tuple[TimedCalls, ...]]] = field(default_factory=list)
    baseline: str | None = None
    parity: ParityGate | None = None
    accuracy: Accuracy | None = None

    @property
    def name(self) -> str:
        """Name of the candidate, unique within the report."""
        return self.description.name

    def row(self) -> Row:
        """Return the report's row for it, not yet compared with its baseline."""
        processes = tuple(process_run(warm_up_ns, rounds) for warm_up_ns, rounds in self.runs)
        rounds = [one_round for _, rounds in self.runs for one_round in rounds]
        stages = {stage: tuple(ns for calls in rounds for ns in calls.stages_ns.get(stage, ())) for stage in STAGES}
        import_ms, load_ms, first_ms = [median(c) for c in zip(*self.cold_starts_ms, strict=True)] or [None] * 3
        metadata = replace(
            self.metadata,
            import_ms=import_ms,
            load_ms=load_ms,
            first_ms=first_ms,
            preemptions=sum(calls.preemptions for calls in rounds),
        )
        return Row(
            Measurement(self.description, processes),
            parity=self.parity,
            metadata=metadata,
            accuracy=self.accuracy,
            stages_ns={stage: durations for stage, durations in stages.items() if durations},
        )


def describe(candidate: Candidate, process: CandidateProcess | None) -> Description:
    """Describe a candidate as its process reports it, else as it was requested.

    Args:
        candidate: The candidate as requested.
        process: Its process; None if it did not start.
    """
    provider, precision, task = candidate.device, None, ""
    if candidate.baseline:
        provider, precision = f"{candidate.baseline}-{provider}", Baseline(candidate.baseline).precision
    if process is not None and process.opened:
        provider, precision = process.provider, process.precision
        candidate = replace(candidate, batch=process.batch)
        task = "" if process.spec is None else process.spec.task.value
    if candidate.mode:
        provider = f"{provider}-{candidate.mode}"
    return Description(
        name=candidate_name(candidate, provider, precision),
        model=candidate.model,
        precision=precision,
        provider=provider,
        batch=candidate.batch,
        threads=candidate.threads,
        inputs_digest="" if process is None else process.inputs_digest,
        task="pipeline" if candidate.level is Level.PIPELINE else task,
        level=candidate.level,
    )


def candidate_name(candidate: Candidate, provider: str, precision: Precision | None) -> str:
    """Return a name that is unique within a report, and stable between reports."""
    if candidate.level is Level.PIPELINE:
        return f"{candidate.model}/{provider}"
    level = "" if candidate.level is Level.MODEL else f"/{candidate.level.value}"
    shown = "unknown" if precision is None else precision.value
    return f"{candidate.model}/{provider}/{shown}/{candidate.batch}{level}"
