"""`mien bench`: measures latency, or compares reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from ...runtime.atomic_file import write_report
from ...runtime.commands.console import print_table, progress_bar, require_train_extra, say
from ...runtime.commands.option_groups import with_options
from ...runtime.commands.run_config import with_config
from ...runtime.errors import CheckFailed, InputError, OutputError
from ...runtime.file_kinds import check_file
from ...runtime.interrupts import exit_code
from ...runtime.models.model_file import ModelFile
from ...runtime.output_paths import check_outputs
from ...runtime.wording import counted
from ..report.report import BenchReport
from ..suite.options import BenchOptions
from .bench_options import bench_options

if TYPE_CHECKING:
    from ..report.recommend import Recommendation
    from ..report.regression import Change


class DefaultsToRun(TyperGroup):
    """Command group that passes arguments to ``run`` if they do not start with a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Insert ``run`` unless the arguments start with a command or ask for help."""
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the commands, then the options of ``run``."""
        super().format_help(ctx, formatter)
        run = self.commands["run"]
        with run.make_context("run", [], parent=ctx, resilient_parsing=True) as own:
            run.format_help(own, formatter)


bench_app = typer.Typer(
    cls=DefaultsToRun,
    help="Measure latency (`run` is the default) or compare reports.",
    epilog="mien bench landmarks.onnx --batch 1,8 --data landmarks68 --json bench.json\n\n"
    "mien bench --data landmarks68 --budget 8ms\n\n"
    "mien bench compare old.json new.json --fail-if 'p95>+5%'",
)


@bench_app.command("run", epilog="mien bench landmarks.onnx --batch 1,8 --data landmarks68 --json bench.json")
@with_config
@with_options(bench_options, "options", panel="What is measured, and how")
def run(
    ctx: typer.Context,
    options: BenchOptions,
    models: list[Path] = typer.Argument(
        None,
        metavar="MODEL",
        help="Model files, with or without mien's metadata, or checkpoints.",
        show_default="the shipped models",
        envvar="MIEN_MODELS",  # see predict
        show_envvar=False,
    ),
    budget: str | None = typer.Option(
        None, "--budget", help="Recommend a model whose p90 latency is within this budget, for example 8ms."
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
    from ..report.recommend import parse_budget, recommend
    from ..report.tables import to_markdown
    from ..suite.benchmark import run_bench

    budget_ms = None if budget is None else parse_budget(budget)
    if budget_ms is None and max_nme_loss is not None:
        raise InputError("--max-nme-loss goes with --budget")
    if max_nme_loss is not None and not options.data:
        raise InputError("--max-nme-loss needs --data with a folder of labelled landmarks")
    if options.feed is not None and not any(map(is_foreign, models or [])):
        raise InputError("--inputs is for foreign models; those of mien take pictures, which --data FOLDER chooses")
    outputs = {"--json": json_out, "--html": html_out, "--csv": csv_out}
    check_outputs(outputs, [*(models or []), *options.data, options.feed, options.clip])
    with require_train_extra(), progress_bar("bench") as progress:
        report = run_bench(models or [], options, bridge=ctx.obj, progress=progress)
    if ctx.params["baseline"] is None and not options.baselines:
        say("no baseline, as PyTorch is not installed; to add it, run: pip install 'mien[train]'")
    unwritten = write_files(report, json_out, html_out, csv_out)  # first: standard output may be full or closed
    print(to_markdown(report), *unwritten.values(), sep="\n", end="")
    without_fit: list[str] = []
    if budget_ms is not None and interrupted(report):
        say("interrupted: no recommendation, as figures are missing")
    elif budget_ms is not None:
        without_fit = print_recommendations(recommend(report, budget_ms, max_nme_loss=max_nme_loss), budget_ms)
    if unwritten:
        raise OutputError(f"{'; '.join(unwritten)}; its content was printed instead")
    end_with(report, without_fit)


def is_foreign(model: Path) -> bool:
    """Tell whether a model file was not exported by mien; checkpoints are always of mien."""
    return model.suffix.lower() != ".pt" and ModelFile.of(model).metadata is None


def write_files(
    report: BenchReport, json_out: Path | None, html_out: Path | None, csv_out: Path | None
) -> dict[str, str]:
    """Write the requested files; return the text of those that cannot be written, by error message."""
    from ..report.html_report import to_html
    from ..report.tables import to_csv

    unwritten = {}
    for path, render in ((json_out, BenchReport.to_json), (html_out, to_html), (csv_out, to_csv)):
        if path is not None:
            text = render(report)
            try:
                write_report(path, text)
            except OutputError as error:
                unwritten[str(error)] = text
    return unwritten


def interrupted(report: BenchReport) -> bool:
    """Return whether Ctrl-C stopped the run."""
    return report.conditions is not None and report.conditions.interrupted


def end_with(report: BenchReport, without_fit: Sequence[str] = ()) -> None:
    """Raise the exception that gives the command its exit code; return normally on success.

    Args:
        report: The report.
        without_fit: Tasks for which no model is within the budget.

    Raises:
        typer.Exit: With code 130 if Ctrl-C stopped the rounds.
        CheckFailed: A candidate or its parity check failed, or no model is within the budget.
    """
    if interrupted(report):
        raise typer.Exit(exit_code())
    if any(row.parity is not None and not row.parity for row in report.rows):
        raise CheckFailed("the outputs of a candidate differ from its reference's; see the table")
    failures = [f"{one.description.name} {one.failure.value} ({one.reason})" for one in report.failed]
    failures += [
        f"{row.name} failed after the rounds ({row.metadata.failure})" for row in report.rows if row.metadata.failure
    ]
    if failures:
        raise CheckFailed(f"not everything could be measured: {'; '.join(failures)}")
    if without_fit:
        raise CheckFailed(f"nothing fits the budget for {', '.join(without_fit)}")


def print_recommendations(found: Sequence[Recommendation], budget_ms: float) -> list[str]:
    """Print the recommended models and the commands to run them; return the tasks without a recommendation."""
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
    return [one.task for one in found if one.row is None]


@bench_app.command(
    "compare", epilog="mien bench compare last_week.json today.json --fail-if 'p95>+5%' --fail-if 'nme>+1%'"
)
def compare(
    old: Path = typer.Argument(..., metavar="OLD", help="Earlier report of mien bench --json."),
    new: Path = typer.Argument(..., metavar="NEW", help="Later report."),
    fail_if: list[str] = typer.Option(
        ["p50>+5%"], "--fail-if", metavar="RULE", help="Change that counts as a regression; can be repeated."
    ),
    allow_mismatch: bool = typer.Option(
        False, "--allow-mismatch", help="Compare even if hardware, allocator, threads, inputs or labelled data differ."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Compare two reports, with 95 % intervals.

    The exit code is 1 for a change beyond --fail-if and beyond chance, and for a candidate or figure that is missing.
    """
    from ..report.regression import compare_reports, missing_results, parse_rule
    from ..timing.speedup import ONE_PROCESS

    rules = [parse_rule(text) for text in fail_if]
    before, after = read_report(old), read_report(new)
    metrics = list(dict.fromkeys(["p50", *(rule.metric for rule in rules)]))
    changes = compare_reports(before, after, metrics, allow_mismatch=allow_mismatch)
    print_changes(changes, f"{new} compared with {old}", as_json=as_json)
    for name in sorted({row.name for row in after.rows} - {row.name for row in before.rows}):
        say(f"only in {new}: {name}")
    for path, report in ((old, before), (new, after)):
        if_one_process = [ONE_PROCESS] if any(len(row.measurement.processes) == 1 for row in report.rows) else []
        for warning in dict.fromkeys([*report.warnings, *if_one_process]):
            say(f"{path}: {warning}", style="yellow")
    broken = [f"{c.name}: {c.metric} {c} breaks {rule}" for c in changes for rule in rules if c.breaks(rule)]
    broken += missing_results(before, after, [rule.metric for rule in rules])
    for line in broken:
        say(line, style="red")
    if broken:
        raise CheckFailed(f"{new} is worse than {old}: {counted(len(broken), 'regression')}, listed above")


def print_changes(changes: Sequence[Change], title: str, *, as_json: bool) -> None:
    """Print the changes as JSON or as a table."""
    if as_json:
        print(json.dumps([asdict(change) for change in changes]))
        return
    rows = [[c.name, c.metric, f"{c.old:.3f}", f"{c.new:.3f}", str(c)] for c in changes]
    print_table(title, ["candidate", "metric", "old", "new", "change (95 %)"], rows)


def read_report(path: Path) -> BenchReport:
    """Read a benchmark report.

    Raises:
        InputError: The file cannot be read, or is not a report.
    """
    check_file(path, "report")
    try:
        return BenchReport.from_json(path.read_text(encoding="utf-8"), origin=str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a benchmark report; expected a file from mien bench --json") from error
