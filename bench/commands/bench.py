"""`mien bench …`: measure latency, or compare reports."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from ...runtime.commands.console import progress_bar, require_train_extra, say
from ...runtime.commands.options import enum_members, positive_ints
from ...runtime.errors import CheckFailed, InputError
from ...runtime.models.runner import Provider
from ...runtime.outputs import check_outputs, write_report
from ..report.report import BenchReport
from ..suite.candidates import Baseline
from ..timing.measurement import Level

INTERRUPTED = 130


class DefaultsToRun(TyperGroup):
    """Command group with ``run`` as its default: arguments that name no command go to ``run``."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Insert ``run`` unless a command is named."""
        if not args or args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


bench_app = typer.Typer(cls=DefaultsToRun, help="Measure latency (`run` is the default) or compare reports.")


@bench_app.command(
    "run",
    epilog="mien bench landmarks.onnx --batch 1,8 --data landmarks68 --json bench.json; "
    "mien bench compare old.json new.json",
)
def run(
    ctx: typer.Context,
    models: list[Path] = typer.Argument(
        None, help="Model files, of mien or foreign, or checkpoints; default: the shipped models."
    ),
    providers: str = typer.Option(
        "cpu", "--providers", help=f"What runs the models, comma-separated: {', '.join(p.value for p in Provider)}."
    ),
    baseline: str | None = typer.Option(
        None,
        "--baseline",
        help=f"PyTorch baselines, comma-separated: {', '.join(b.value for b in Baseline)}; or none. Ratios refer to "
        "the first.",
        show_default="eager if PyTorch is installed",
    ),
    batch: str = typer.Option("1", "--batch", help="Images per call, comma-separated."),
    level: str = typer.Option(
        "model",
        "--level",
        help="Comma-separated: model (the model alone), picture (from a picture to the decoded result).",
    ),
    pipeline: Path | None = typer.Option(
        None, "--pipeline", help="Also measure the whole pipeline on this video, by stage."
    ),
    threads: int = typer.Option(1, "--threads", min=1, help="Threads per operator, and of PyTorch."),
    rounds: int = typer.Option(20, "--rounds", min=1, help="Rounds; in each, all candidates take turns."),
    calls: int = typer.Option(10, "--calls-per-round", min=1, help="Calls of each candidate per round."),
    processes: int = typer.Option(
        5,
        "--processes",
        min=1,
        help="Processes of each candidate, one after the other; the rounds are divided among them.",
    ),
    reference_model: bool = typer.Option(
        False, "--reference-model", help="Also measure torchvision's mobilenet_v2 at 224 px."
    ),
    data: list[Path] = typer.Option(
        [],
        "--data",
        help="Folder of pictures for the inputs, and of labels for the accuracy; can be repeated.",
        show_default="the demo picture",
    ),
    held_out: bool = typer.Option(
        False, "--held-out", help="Measure accuracy only on what mien train holds out of --data."
    ),
    feed: Path | None = typer.Option(
        None, "--inputs", help="Arrays (.npz, by input name) for a foreign model.", show_default="random, by its shapes"
    ),
    timeout: float = typer.Option(300.0, "--timeout", min=1.0, help="Seconds after which a candidate counts as hung."),
    budget: str | None = typer.Option(
        None, "--budget", help="Recommend a model with a p90 within this budget, such as 8ms."
    ),
    max_nme_loss: float | None = typer.Option(
        None,
        "--max-nme-loss",
        min=0.0,
        metavar="N",
        help="With --budget: pick the fastest model whose NME is within N points of the best.",
    ),
    json_out: Path | None = typer.Option(None, "--json", help="Write the report with all raw values to this file."),
    html_out: Path | None = typer.Option(None, "--html", help="Write the report as a web page to this file."),
    csv_out: Path | None = typer.Option(None, "--csv", help="Write the figures to this file, one line per candidate."),
) -> None:
    """Measure latency on real images against eager PyTorch, after checking that the outputs agree."""
    from ..report.html_report import to_html
    from ..report.recommend import parse_budget, recommend
    from ..report.tables import to_csv, to_markdown
    from ..suite.benchmark import run_bench
    from ..suite.session import BenchOptions

    budget_ms = None if budget is None else parse_budget(budget)
    if budget_ms is None and max_nme_loss is not None:
        raise InputError("--max-nme-loss goes with --budget")
    if max_nme_loss is not None and not data:
        raise InputError("--max-nme-loss needs --data with a folder of labelled landmarks")
    if held_out and not data:
        raise InputError("--held-out goes with --data")
    if feed is not None and not feed.is_file():
        raise InputError(f"no file {feed}")
    outputs = {"--json": json_out, "--html": html_out, "--csv": csv_out}
    check_outputs(outputs, [*(models or []), *data, feed, pipeline])
    options = BenchOptions(
        batches=tuple(dict.fromkeys(positive_ints(batch, "--batch"))),
        threads=threads,
        rounds=rounds,
        calls_per_round=calls,
        processes=processes,
        baselines=baselines_of(baseline),
        reference_model=reference_model,
        providers=tuple(enum_members(providers, Provider, "--providers")),
        levels=levels_of(level),
        data=tuple(data),
        held_out=held_out,
        clip=pipeline,
        feed=feed,
        timeout_s=timeout,
    )
    with require_train_extra(), progress_bar("bench") as progress:
        report = run_bench(models or [], options, bridge=ctx.obj, progress=progress)
    print(to_markdown(report), end="")  # before the files: a full disk loses no figure
    for path, render in ((json_out, BenchReport.to_json), (html_out, to_html), (csv_out, to_csv)):
        if path is not None:
            write_report(path, render(report))
    if budget_ms is not None and report.conditions is not None and report.conditions.interrupted:
        say("interrupted: no recommendation, as figures are missing")
    elif budget_ms is not None:
        print_recommendations(recommend(report, budget_ms, max_nme_loss=max_nme_loss), budget_ms)
    end_with(report)


def end_with(report: BenchReport) -> None:
    """Raise what ends the command with the report's exit code.

    Raises:
        typer.Exit: With code 130 if Ctrl-C ended the rounds.
        CheckFailed: A candidate failed, or its parity does not hold.
    """
    if report.conditions is not None and report.conditions.interrupted:
        raise typer.Exit(INTERRUPTED)
    if any(row.parity is not None and not row.parity for row in report.rows):
        raise CheckFailed("the outputs of a candidate differ from its reference's; see the table")
    failures = [f"{one.description.name} {one.failure.value} ({one.reason})" for one in report.failed]
    failures += [
        f"{row.name} failed after the rounds ({row.metadata.failure})" for row in report.rows if row.metadata.failure
    ]
    if failures:
        raise CheckFailed(f"not everything could be measured: {'; '.join(failures)}")


def print_recommendations(found: Any, budget_ms: float) -> None:
    """Print the recommended models and the commands that use them.

    Raises:
        CheckFailed: Nothing fits the budget for a task.
    """
    from ..report.recommend import command_of

    print(f"\nWithin {budget_ms:g} ms at p90:\n")
    for one in found:
        if one.row is None:
            print(f"- {one.task}: {one.reason}")
            continue
        m, accuracy = one.row.measurement, one.row.accuracy
        measured = "" if accuracy is None else f", {accuracy.metric.value} {accuracy}"
        print(f"- {one.task}: {m.description}, p90 {m.p90_ms:.2f} ms{measured}: {one.reason}\n")
        print(f"      {command_of(one.row)}\n")
    missing = [one.task for one in found if one.row is None]
    if missing:
        raise CheckFailed(f"nothing fits the budget for {', '.join(missing)}")


@bench_app.command(
    "compare", epilog="mien bench compare last_week.json today.json --fail-if 'p95>+5%' --fail-if 'nme>+1%'"
)
def compare(
    old: Path = typer.Argument(..., help="Earlier report of mien bench --json."),
    new: Path = typer.Argument(..., help="Later report."),
    fail_if: list[str] = typer.Option(
        ["p50>+5%"], "--fail-if", help="Change that counts as a regression; can be repeated."
    ),
    allow_mismatch: bool = typer.Option(
        False, "--allow-mismatch", help="Compare even if hardware, allocator, threads, inputs or labelled data differ."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Compare two reports, with 95 % intervals; exit with code 1 on a regression beyond chance."""
    from ..report.regression import compare_reports, missing_results, parse_rule
    from ..timing.speedup import ONE_PROCESS

    rules = [parse_rule(text) for text in fail_if]
    before, after = read_report(old), read_report(new)
    metrics = list(dict.fromkeys(["p50", *(rule.metric for rule in rules)]))
    changes = compare_reports(before, after, metrics, allow_mismatch=allow_mismatch)
    broken = [f"{c.name}: {c.metric} {c} breaks {rule}" for c in changes for rule in rules if c.breaks(rule)]
    if as_json:
        print(json.dumps([asdict(change) for change in changes]))
    else:
        table = Table(title=f"{new} compared with {old}")
        for heading in ("candidate", "metric", "old", "new", "change (95 %)"):
            named = heading == "candidate"
            table.add_column(heading, justify="left" if named else "right", overflow="fold" if named else "ellipsis")
        for c in changes:
            table.add_row(c.name, c.metric, f"{c.old:.3f}", f"{c.new:.3f}", str(c))
        Console(width=None if sys.stdout.isatty() else 120).print(table)
    for name in sorted({row.name for row in after.rows} ^ {row.name for row in before.rows}):
        say(f"only in one of the reports: {name}")
    for path, report in ((old, before), (new, after)):
        if_one_process = [ONE_PROCESS] if any(len(row.measurement.processes) == 1 for row in report.rows) else []
        for warning in dict.fromkeys([*report.warnings, *if_one_process]):
            say(f"{path}: {warning}", style="yellow")
    broken += missing_results(before, after, [rule.metric for rule in rules])
    if broken:
        raise CheckFailed(f"regressions: {'; '.join(broken)}")


def read_report(path: Path) -> BenchReport:
    """Read a report.

    Raises:
        InputError: The file cannot be read, or is not a report.
    """
    try:
        return BenchReport.from_json(path.read_text(encoding="utf-8"), origin=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error


def baselines_of(text: str | None) -> tuple[str, ...]:
    """Parse ``--baseline``; without it, eager PyTorch is the baseline if it is installed.

    Raises:
        InputError: An unknown baseline, or PyTorch is not installed.
    """
    from ..suite.benchmark import has_torch

    if text is None:
        if has_torch():
            return (Baseline.EAGER.value,)
        say("no baseline, as PyTorch is not installed; to add it, run: pip install 'mien[train]'")
        return ()
    if text.strip() == "none":
        return ()
    found = enum_members(text, Baseline, "--baseline (or none)")
    if not has_torch():
        raise InputError(f"--baseline {text} needs PyTorch, which is not installed; run: pip install 'mien[train]'")
    return tuple(baseline.value for baseline in found)


def levels_of(text: str) -> tuple[Level, ...]:
    """Parse ``--level``; the pipeline has its own option, as it needs a video."""
    found = enum_members(text, Level, "--level")
    if Level.PIPELINE in found:
        raise InputError("the level pipeline needs a video; use --pipeline CLIP instead")
    return tuple(found)
