"""`mien verify`: checks a bundle on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console

from ...runtime.commands.console import progress_bar, say
from ...runtime.commands.options import MAX_THREADS
from ...runtime.errors import InputError
from ...runtime.models.runner import Provider
from ..timing.environment import environment_warnings
from ..verdict import Check, Verdict
from ..verify import VerifyOptions, verify_file

ROUNDS = typer.Option(10, "--rounds", min=0, help="Rounds of ten timed calls; 0: do not measure latency.")
THREADS = typer.Option(1, "--threads", min=0, max=MAX_THREADS, help="Threads per operator; 0: all cores.")


def verify(
    path: Path = typer.Argument(..., metavar="FILE", help="Bundle made by mien bundle."),
    provider: list[Provider] = typer.Option(
        [],
        "--provider",
        metavar="PROVIDER",
        help="Check only this provider, and fail if it is unavailable; can be repeated. Default: all available ones.",
    ),
    sha256: str | None = typer.Option(
        None, "--sha256", help="Digest printed by mien bundle; a file with another digest is rejected."
    ),
    rounds: int = ROUNDS,
    threads: int = THREADS,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check a bundle's checksums, and that its models reproduce their reference outputs on this machine."""
    if Provider.AUTO in provider:
        raise InputError("--provider auto is the default of verify: omit it, or name a provider that must run")
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
    """Print one line per model file and provider, then the verdict."""
    out = Console(soft_wrap=True, highlight=False, emoji=False)
    if not verdict.refused:
        out.print(
            f"{path.name}, made by mien {verdict.made_by}, sha256 {verdict.sha256}: all checksums match", markup=False
        )
    for check in verdict.checks:
        out.print(_line(check, verdict), markup=False, style="" if check else "red")
    for provider, reason in verdict.absent.items():
        say(f"not checked on {provider.value}: {reason}")
    if verdict.environment is not None and any(check.measurement for check in verdict.checks):
        for reason in environment_warnings(verdict.environment):
            say(f"latencies may be unreliable: {reason}", style="yellow")
    out.print(str(verdict), markup=False)


def _line(check: Check, verdict: Verdict) -> str:
    text = f"{'✓' if check else '✗'} {check.model} {check.precision.value} on {check.provider.value}: "
    text += check.failure or str(check.parity)
    if check.measurement is not None:
        text += f"; p50 {check.measurement.p50_ms:.2f} ms, p99 {check.measurement.p99_ms:.2f} ms"
        text += f", n {len(check.measurement.calls_ns)}"
    bundled = verdict.bundled_p50_ms(check)
    return text if bundled is None else f"{text} (p50 where it was bundled: {bundled:.2f} ms)"
