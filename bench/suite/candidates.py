"""Names of candidates, and the record that a session keeps of each open one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from ...runtime.faces.stage_timer import STAGES
from ...runtime.models.spec import Precision
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
    """Everything a session knows about a candidate that is open.

    Attributes:
        candidate: what was asked for.
        description: what it turned out to be.
        process: its current process, which has its inputs.
        inputs_file: file of its inputs; None for a pipeline.
        images: images (n, h, w, 3) for its parity; None for what is not a model of mien.
        metadata: what is known besides its latency.
        cold_starts_ms: time for import, load and first call of each process.
        runs: warm-up and rounds of each process.
        baseline: name of the candidate that it is compared with.
        parity: parity with the baseline; None until it is checked.
        accuracy: accuracy on labelled data; None until it is measured.
    """

    candidate: Candidate
    description: Description
    process: CandidateProcess
    inputs_file: Path | None
    images: Image | None
    metadata: CandidateMetadata
    cold_starts_ms: list[tuple[float, float, float]]
    runs: list[tuple[tuple[int, ...], tuple[TimedCalls, ...]]] = field(default_factory=list)
    baseline: str | None = None
    parity: ParityGate | None = None
    accuracy: Accuracy | None = None

    @property
    def name(self) -> str:
        """Name within the report, where it is unique."""
        return self.description.name

    def row(self) -> Row:
        """Summarize as a row of the report, not yet compared with its baseline."""
        processes = tuple(process_run(warm_up_ns, rounds) for warm_up_ns, rounds in self.runs)
        rounds = [one_round for _, rounds in self.runs for one_round in rounds]
        stages = {stage: tuple(ns for calls in rounds for ns in calls.stages_ns.get(stage, ())) for stage in STAGES}
        import_ms, load_ms, first_ms = (median(column) for column in zip(*self.cold_starts_ms, strict=True))
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
    """Describe a candidate by what its process has said so far, else by what was asked for.

    Args:
        candidate: what was asked for.
        process: its process if it could be opened.
    """
    provider, precision, task = candidate.device, None, ""
    if candidate.baseline:
        provider, precision = f"{candidate.baseline}-{provider}", Baseline(candidate.baseline).precision
    if process is not None:
        provider, precision = process.provider, process.precision
        candidate = replace(candidate, batch=process.batch)
        task = "" if process.spec is None else process.spec.task.value
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
    """Name a candidate: unique within a report, and the same in the next one."""
    if candidate.level is Level.PIPELINE:
        return f"{candidate.model}/{provider}"
    level = "" if candidate.level is Level.MODEL else f"/{candidate.level.value}"
    shown = "unknown" if precision is None else precision.value
    return f"{candidate.model}/{provider}/{shown}/{candidate.batch}{level}"
