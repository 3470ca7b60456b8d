"""`mien bench …`: measure (run, which need not be said), and compare reports."""

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

from mien.bench.report.report import BenchReport
from mien.bench.suite.candidates import Baseline
from mien.bench.timing.measurement import Level
from mien.runtime.commands.console import progress_bar, require_train_extra, say
from mien.runtime.commands.options import enum_members, positive_ints
from mien.runtime.errors import CheckFailed, InputError
from mien.runtime.files import check_writable
from mien.runtime.models.runner import Provider

INTERRUPTED = 130


class DefaultsToRun(TyperGroup):
    """A group whose command ``run`` need not be named: what is no command's name is an argument of it."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """See the class."""
        if not args or args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


bench_app = typer.Typer(cls=DefaultsToRun, help="Measure latency (run, which need not be said), or compare reports.")


@bench_app.command(
    "run",
    epilog="mien bench landmarks.onnx --batch 1,8 --data landmarks68 --json bench.json; "
    "mien bench compare old.json new.json",
)
def run(
    ctx: typer.Context,
    models: list[Path] = typer.Argument(
        None, help="Model files, anybody's, or checkpoints; default: the shipped ones."
    ),
    providers: str = typer.Option(
        "cpu", "--providers", help=f"Comma-separated: {', '.join(p.value for p in Provider)}."
    ),
    baseline: str | None = typer.Option(
        None,
        "--baseline",
        help=f"Comma-separated: {', '.join(b.value for b in Baseline)}; or none. Ratios are to the first.",
        show_default="eager where torch is installed",
    ),
    batch: str = typer.Option("1", "--batch", help="Images in a call, comma-separated."),
    level: str = typer.Option(
        "model", "--level", help="Comma-separated: model; picture: from a picture to the decoded result."
    ),
    pipeline: Path | None = typer.Option(
        None, "--pipeline", help="Measure the whole pipeline over this video too, by stage."
    ),
    threads: int = typer.Option(1, "--threads", min=1, help="Threads of one operator, and of PyTorch."),
    rounds: int = typer.Option(20, "--rounds", min=1, help="Rounds in which all candidates take turns."),
    calls: int = typer.Option(10, "--calls-per-round", min=1, help="Calls of each candidate in a round."),
    processes: int = typer.Option(
        5, "--processes", min=1, help="Processes that each candidate has, one after the other; rounds are shared out."
    ),
    reference_model: bool = typer.Option(
        False, "--reference-model", help="Also measure torchvision's mobilenet_v2 at 224 px."
    ),
    data: list[Path] = typer.Option(
        [],
        "--data",
        help="Folder the inputs come from, and the labels that accuracy is measured with; repeat it.",
        show_default="the demo picture",
    ),
    held_out: bool = typer.Option(False, "--held-out", help="Accuracy only on what mien train holds out of --data."),
    feed: Path | None = typer.Option(
        None, "--inputs", help="Arrays (.npz, by input name) for a foreign file.", show_default="made from its shapes"
    ),
    timeout: float = typer.Option(300.0, "--timeout", min=1.0, help="Seconds after which a candidate counts as hung."),
    budget: str | None = typer.Option(None, "--budget", help="Name what to ship within this p90, such as 8ms."),
    max_nme_loss: float | None = typer.Option(
        None, "--max-nme-loss", min=0.0, help="With --budget: the fastest that loses no more points of NME."
    ),
    json_out: Path | None = typer.Option(None, "--json", help="File for the report with all raw values."),
    html_out: Path | None = typer.Option(None, "--html", help="File for the report as a page to look at."),
    csv_out: Path | None = typer.Option(None, "--csv", help="File for the figures, a line a row."),
) -> None:
    """Measure latency on real images, against eager PyTorch, with the parity that allows the comparison."""
    from mien.bench.report.html_report import to_html
    from mien.bench.report.recommend import parse_budget, recommend
    from mien.bench.report.tables import to_csv, to_markdown
    from mien.bench.suite.benchmark import run_bench
    from mien.bench.suite.session import BenchOptions

    budget_ms = None if budget is None else parse_budget(budget)
    if budget_ms is None and max_nme_loss is not None:
        raise InputError("--max-nme-loss goes with --budget")
    if max_nme_loss is not None and not data:
        raise InputError("--max-nme-loss needs --data with a folder of labelled landmarks")
    if held_out and not data:
        raise InputError("--held-out goes with --data")
    if feed is not None and not feed.is_file():
        raise InputError(f"no file {feed}")
    for path in (json_out, html_out, csv_out):
        if path is not None:
            check_writable(path)
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
    for path, told in ((json_out, BenchReport.to_json), (html_out, to_html), (csv_out, to_csv)):
        if path is not None:
            path.write_text(told(report), encoding="utf-8")
    print(to_markdown(report), end="")
    if budget_ms is not None and report.conditions is not None and report.conditions.interrupted:
        say("interrupted: not everything is known that a choice is made by, and none is made")
    elif budget_ms is not None:
        print_choices(recommend(report, budget_ms, max_nme_loss=max_nme_loss), budget_ms)
    end_with(report)


def end_with(report: BenchReport) -> None:
    """The exit code: 130 where Ctrl-C ended the rounds, 1 where a candidate failed or its parity is false."""
    if report.conditions is not None and report.conditions.interrupted:
        raise typer.Exit(INTERRUPTED)
    if any(row.parity is not None and not row.parity for row in report.rows):
        raise CheckFailed("a candidate does not compute what its reference computes; see the table")
    told = [f"{one.description.name} {one.failure.value} ({one.reason})" for one in report.failed]
    told += [
        f"{row.name} failed after the rounds ({row.metadata.failure})" for row in report.rows if row.metadata.failure
    ]
    if told:
        raise CheckFailed(f"not everything could be measured: {'; '.join(told)}")


def print_choices(choices: Any, budget_ms: float) -> None:
    """What to ship, and the command that uses it; CheckFailed where nothing fits."""
    from mien.bench.report.recommend import command_of

    print(f"\nWithin {budget_ms:g} ms at p90:\n")
    for choice in choices:
        if choice.row is None:
            print(f"- {choice.task}: {choice.reason}")
            continue
        m, accuracy = choice.row.measurement, choice.row.accuracy
        told = "" if accuracy is None else f", {accuracy.metric.value} {accuracy}"
        print(f"- {choice.task}: {m.description}, p90 {m.p90_ms:.2f} ms{told}: {choice.reason}\n")
        print(f"      {command_of(choice.row)}\n")
    missing = [choice.task for choice in choices if choice.row is None]
    if missing:
        raise CheckFailed(f"nothing fits the budget for {', '.join(missing)}")


@bench_app.command(
    "compare", epilog="mien bench compare last_week.json today.json --fail-if 'p95>+5%' --fail-if 'nme>+1%'"
)
def compare(
    old: Path = typer.Argument(..., help="Earlier report of mien bench --json."),
    new: Path = typer.Argument(..., help="Later report."),
    fail_if: list[str] = typer.Option(["p50>+5%"], "--fail-if", help="A change that is too much; repeat it."),
    anyway: bool = typer.Option(
        False, "--allow-mismatch", help="Compare reports of other hardware, threads or inputs too."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Tell what became worse, with 95 % intervals; exit code 1 where it is too much and no chance."""
    from mien.bench.report.regression import compare_reports, missing_results, parse_rule
    from mien.bench.timing.speedup import ONE_PROCESS

    rules = [parse_rule(text) for text in fail_if]
    before, after = read_report(old), read_report(new)
    metrics = list(dict.fromkeys(["p50", *(rule.metric for rule in rules)]))
    changes = compare_reports(before, after, metrics, anyway=anyway)
    broken = [f"{c.name}: {c.metric} {c} breaks {rule}" for c in changes for rule in rules if c.breaks(rule)]
    if as_json:
        print(json.dumps([asdict(change) for change in changes]))
    else:
        table = Table(title=f"{new} after {old}")
        for heading in ("candidate", "metric", "old", "new", "change (95 %)"):
            named = heading == "candidate"
            table.add_column(heading, justify="left" if named else "right", overflow="fold" if named else "ellipsis")
        for c in changes:
            table.add_row(c.name, c.metric, f"{c.old:.3f}", f"{c.new:.3f}", str(c))
        Console(width=None if sys.stdout.isatty() else 120).print(table)
    for name in sorted({row.name for row in after.rows} ^ {row.name for row in before.rows}):
        say(f"only in one of them: {name}")
    for path, report in ((old, before), (new, after)):
        of_old_version = [ONE_PROCESS] if any(len(row.measurement.processes) == 1 for row in report.rows) else []
        for warning in dict.fromkeys([*report.warnings, *of_old_version]):
            say(f"{path}: {warning}", style="yellow")
    broken += missing_results(before, after, [rule.metric for rule in rules])
    if broken:
        raise CheckFailed(f"worse: {'; '.join(broken)}")


def read_report(path: Path) -> BenchReport:
    """A report from a file.

    Raises:
        InputError: it cannot be read, or is no report.
    """
    try:
        return BenchReport.from_json(path.read_text(encoding="utf-8"), origin=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error


def baselines_of(text: str | None) -> tuple[str, ...]:
    """What ``--baseline`` means on this machine.

    Raises:
        InputError: an unknown one, or PyTorch is wanted and not installed.
    """
    from mien.bench.suite.benchmark import has_torch

    if text is None:
        if has_torch():
            return (Baseline.EAGER.value,)
        say("PyTorch is not installed: no eager baseline (pip install 'mien[train]' adds it)")
        return ()
    if text.strip() == "none":
        return ()
    found = enum_members(text, Baseline, "--baseline (or none)")
    if not has_torch():
        raise InputError(f"--baseline {text} needs torch, which is not installed; run: pip install 'mien[train]'")
    return tuple(baseline.value for baseline in found)


def levels_of(text: str) -> tuple[Level, ...]:
    """What ``--level`` means: the pipeline has an option of its own, for it needs a clip."""
    found = enum_members(text, Level, "--level")
    if Level.PIPELINE in found:
        raise InputError("the level pipeline needs a video; say --pipeline CLIP")
    return tuple(found)
