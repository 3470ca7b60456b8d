"""`mien doctor`: checks this machine."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer
from rich.console import Console


def doctor(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Check this machine: what is installed, what works, and how to fix the rest. Changes nothing."""
    from ..doctor.check_result import Status
    from ..doctor.checks import run_checks

    marks = {Status.OK: ("✓", "green"), Status.NOTE: ("·", ""), Status.PROBLEM: ("✗", "red")}
    results, out = [], Console(soft_wrap=True, emoji=False)
    for result in run_checks():
        results.append(result)
        if not as_json:
            mark, style = marks[result.status]
            out.print(f"{mark} {result.name}: {result.found}", style=style, markup=False, highlight=False)
            if result.fix:
                out.print(f"    → {result.fix}", markup=False, highlight=False)
    if as_json:
        print(json.dumps([asdict(result) for result in results]))
    if any(result.status is Status.PROBLEM for result in results):
        raise typer.Exit(1)
