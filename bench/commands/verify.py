"""`mien verify`."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console

from mien.bench.timing.environment import environment_warnings
from mien.bench.verify import Check, Verdict, VerifyOptions, verify_file
from mien.runtime.commands.console import progress_bar, say
from mien.runtime.errors import InputError
from mien.runtime.models.runner import Provider

ROUNDS = typer.Option(10, "--rounds", min=0, help="Rounds of the measurement, ten calls each; 0: measure nothing.")


THREADS = typer.Option(1, "--threads", min=0, help="Threads of one operator; 0: all cores.")


def verify(
    path: Path = typer.Argument(..., metavar="FILE", help="Bundle of mien bundle."),
    provider: list[Provider] = typer.Option(
        [], "--provider", help="Only this one, and it must run; repeat it. Default: all that run here."
    ),
    sha256: str | None = typer.Option(None, "--sha256", help="What mien bundle printed: refuse any other file."),
    rounds: int = ROUNDS,
    threads: int = THREADS,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check a bundle's sums, and whether its models compute here what they computed where it was made."""
    if Provider.AUTO in provider:
        raise InputError("--provider auto is the default here: leave it out, or name one that must run")
    options = VerifyOptions(required=tuple(dict.fromkeys(provider)), threads=threads, rounds=rounds)
    with progress_bar("measure") as progress:
        verdict = verify_file(path, options, sha256=sha256, progress=progress)
    if as_json:
        print(json.dumps(verdict.to_row()))
    else:
        _print(verdict, path)
    if not verdict:
        raise typer.Exit(1)


def _print(verdict: Verdict, path: Path) -> None:
    """One line a model file and provider, and the verdict last."""
    out = Console(soft_wrap=True, highlight=False)
    if not verdict.refused:
        out.print(
            f"{path.name}, made by mien {verdict.made_by}, sha256 {verdict.sha256}: every sum holds", markup=False
        )
    for check in verdict.checks:
        out.print(_line(check, verdict), markup=False, style="" if check else "red")
    for provider, reason in verdict.absent.items():
        say(f"not tried on {provider.value}: {reason}")
    if verdict.environment is not None and any(check.measurement for check in verdict.checks):
        for reason in environment_warnings(verdict.environment):
            say(f"doubt the latencies: {reason}", style="yellow")
    out.print(str(verdict), markup=False)


def _line(check: Check, verdict: Verdict) -> str:
    text = f"{'✓' if check else '✗'} {check.model} {check.precision.value} on {check.provider.value}: "
    text += check.failure or str(check.parity)
    if check.measurement is not None:
        text += f"; p50 {check.measurement.p50_ms:.2f} ms, p99 {check.measurement.p99_ms:.2f} ms"
        text += f", n {len(check.measurement.calls_ns)}"
    bundled = verdict.bundled_p50_ms(check)
    return text if bundled is None else f"{text} (p50 where it was made: {bundled:.2f} ms)"
