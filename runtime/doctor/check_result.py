"""What the doctor finds, one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(str, Enum):
    """How a finding is meant."""

    OK = "ok"
    NOTE = "note"
    """Not there, and not needed by everybody."""
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was looked at. fix: the command or the step that mends it, empty where nothing is to mend."""

    name: str
    status: Status
    found: str
    fix: str = ""
