"""`mien doctor`."""

from __future__ import annotations

import json

import typer
from rich.console import Console

from mien.runtime.commands.options import AS_JSON


def doctor(as_json: bool = AS_JSON) -> None:
    """Look at this machine: what is there, what really runs, and how to mend the rest. Changes nothing."""
    from mien.runtime.doctor.check_result import Status
    from mien.runtime.doctor.checks import examine, to_row

    marks = {Status.OK: ("✓", "green"), Status.NOTE: ("·", ""), Status.PROBLEM: ("✗", "red")}
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            mark, style = marks[finding.status]
            out = Console(soft_wrap=True)
            out.print(f"{mark} {finding.name}: {finding.found}", style=style, markup=False, highlight=False)
            if finding.fix:
                out.print(f"    → {finding.fix}", markup=False, highlight=False)
    if as_json:
        print(json.dumps([to_row(finding) for finding in findings]))
    if any(finding.status is Status.PROBLEM for finding in findings):
        raise typer.Exit(1)
