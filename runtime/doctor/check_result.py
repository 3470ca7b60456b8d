"""Result of one check of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(str, Enum):
    """Severity of a check result."""

    OK = "ok"
    NOTE = "note"
    """Missing, but optional."""
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of one check.

    Attributes:
        name: Subject of the check.
        status: Severity.
        found: Description of what was found.
        fix: Command or step that fixes it; empty if nothing is to be done.
    """

    name: str
    status: Status
    found: str
    fix: str = ""


def ok_unless(wrong: bool, name: str, found: str, fix: str, *, status: Status = Status.PROBLEM) -> CheckResult:
    """Return a result that is OK, or else has a status and a fix."""
    return CheckResult(name, status, found, fix) if wrong else CheckResult(name, Status.OK, found)
