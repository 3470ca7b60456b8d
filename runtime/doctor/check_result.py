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
