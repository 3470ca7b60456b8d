"""The candidates of a benchmark session: which are running, and which have failed."""

from __future__ import annotations

import logging

from ...runtime.errors import ProcessFailed
from ..report.report import FailedCandidate
from ..timing.measurement import Description
from ..worker.process import CandidateFailed, FailureKind
from .candidates import CandidateRecord

log = logging.getLogger("mien")


class CandidateRecords:
    """Running candidates by name, and failed ones with the reason.

    Attributes:
        running: Records of the running candidates by name.
        failed: Failed candidates by name.
    """

    def __init__(self) -> None:
        self.running: dict[str, CandidateRecord] = {}
        self.failed: dict[str, FailedCandidate] = {}

    def add(self, record: CandidateRecord) -> None:
        """Add a running candidate; it replaces a failed one of the same name, which `auto` may have produced."""
        self.running[record.name] = record
        self.failed.pop(record.name, None)

    def drop(self, record: CandidateRecord, error: ProcessFailed) -> None:
        """Close a running candidate that failed."""
        del self.running[record.name]
        self.note_failure(record.description, error)
        record.process.close()

    def note_failure(self, description: Description, error: ProcessFailed) -> None:
        """Record a failed candidate, unless one of the same name is running, which `auto` may have produced."""
        log.warning("%s failed: %s", description, error)
        failure = error.failure if isinstance(error, CandidateFailed) else FailureKind.CRASHED
        reason = error.reason if isinstance(error, CandidateFailed) else str(error)
        if description.name not in self.running:
            self.failed.setdefault(description.name, FailedCandidate(description, failure, reason))

    def ordered(self) -> list[CandidateRecord]:
        """List the running candidates, each after its baseline."""
        ordered: dict[str, CandidateRecord] = {}
        for record in self.running.values():
            if record.baseline in self.running:
                ordered[record.baseline] = self.running[record.baseline]
            ordered[record.name] = record
        return list(ordered.values())

    def check_some_left(self) -> None:
        """Raise ProcessFailed if no candidate is running any more."""
        if not self.running:
            reasons = (f"{f.description}: {f.failure.value} ({f.reason})" for f in self.failed.values())
            raise ProcessFailed(f"no candidate could be measured: {'; '.join(reasons)}")
