"""Recommends the model to ship: the most accurate one within a latency budget."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.errors import InputError
from ...runtime.models.runner import Provider
from ...runtime.models.spec import Task
from ..accuracy.accuracy import Accuracy, Metric
from ..timing.measurement import Level
from .report import BenchReport, Row

_BUDGET = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|us|µs)\s*$")
_IN_MS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "µs": 1e-3}
_OPTION = {Task.LANDMARKS.value: "--model", Task.DETECTOR.value: "--detector", Task.AGE_GENDER.value: "--age-gender"}
_PROVIDERS = {provider.value for provider in Provider}
"""Providers that mien's commands accept. Baselines have others, such as eager-cpu or compile-cuda."""
SHIPPED_FILE = "shipped"
REFERENCE_FILE = "torchvision"
"""Shown instead of a file for the reference network, which is measured for comparison and never recommended."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Recommended candidate for a task.

    Attributes:
        task: The task; for a foreign model, the model's name.
        row: The recommended row; None if no candidate is suitable.
        reason: Why this row was chosen, or why none was.
    """

    task: str
    row: Row | None
    reason: str


def parse_budget(text: str) -> float:
    """Parse a duration such as ``8ms``, and return it in ms.

    Raises:
        InputError: The text is not a duration, or the duration is zero.
    """
    found = _BUDGET.match(text)
    if found is None or float(found.group(1)) == 0:
        raise InputError(f"expected a duration such as 8ms; found {text!r}")
    return float(found.group(1)) * _IN_MS[found.group(2)]


def recommend(report: BenchReport, budget_ms: float, *, max_nme_loss: float | None = None) -> list[Recommendation]:
    """Recommend one candidate for each task in a report.

    A candidate is suitable if its parity check passed and its p90 is within the budget. (The median would be exceeded
    by half of all frames, and the p99 of a few hundred calls depends on only a few of them.) Among suitable candidates,
    the fastest that is not significantly less accurate than the best is recommended; without measured accuracy, simply
    the fastest. Baselines need PyTorch and are never recommended.

    Args:
        report: The benchmark report.
        budget_ms: Maximum p90 latency of a call.
        max_nme_loss: For landmark models, recommend the fastest whose NME is within this many points of the lowest in
            the report.

    Raises:
        InputError: `max_nme_loss` was given, but no landmark model has an NME.
    """
    rows = _candidates(report)
    tasks = list(dict.fromkeys(map(_task_of, rows)))
    if max_nme_loss is not None and not any(_has(row, Metric.NME) for row in rows):
        raise InputError(
            "--max-nme-loss needs the NME of a landmark model; pass --data with a folder of labelled landmarks"
        )
    return [_recommendation(task, report, rows, budget_ms, max_nme_loss) for task in tasks]


def command_of(row: Row) -> str:
    """Return the shell command that runs a candidate, after exporting it if it is a checkpoint."""
    d, file = row.measurement.description, row.metadata.file
    file = f"./{file}" if file.startswith("-") else file  # or it would be taken for an option
    threads = f" --threads {d.threads}" if d.threads else ""
    run_options = f"--provider {d.provider}{threads}"
    export = ""
    if file.lower().endswith(".pt"):
        exported = f"{file[: -len('.pt')]}.onnx"
        export = f"mien export {shlex.quote(file)} -o {shlex.quote(exported)} && "
        file = exported
    if d.task == Task.CLASSIFY.value:
        return f"{export}mien predict PICTURES --model {shlex.quote(file)} {run_options}"
    if d.task not in _OPTION:
        return f"{file} on {d.provider} (mien has no command for a foreign model)"
    model_option = f"{_OPTION[d.task]} {shlex.quote(file)} "
    if file == SHIPPED_FILE and d.precision is not None:
        model_option = f"--precision {d.precision.value} "
    return f"{export}mien webcam {model_option}{run_options}"


def _candidates(report: BenchReport) -> list[Row]:
    """Return the rows that could be shipped: for each task those at the most complete level and smallest batch."""
    bases = {row.baseline for row in report.rows}
    shippable = [
        row
        for row in report.rows
        if row.name not in bases
        and row.measurement.description.level is not Level.PIPELINE
        and row.measurement.description.provider in _PROVIDERS
        and row.metadata.file != REFERENCE_FILE
    ]
    kept = []
    for row in shippable:
        d = row.measurement.description
        of_task = [r.measurement.description for r in shippable if _task_of(r) == _task_of(row)]
        level = Level.PICTURE if any(o.level is Level.PICTURE for o in of_task) else Level.MODEL
        if d.level is level and d.batch == min(o.batch for o in of_task if o.level is level):
            kept.append(row)
    return kept


def _task_of(row: Row) -> str:
    """Return a row's task; a foreign model's task is unknown, so its name stands in."""
    return row.measurement.description.task or row.measurement.description.model


def _recommendation(
    task: str, report: BenchReport, candidates: Sequence[Row], budget_ms: float, max_nme_loss: float | None
) -> Recommendation:
    rows = [row for row in candidates if _task_of(row) == task]
    agreeing = [row for row in rows if row.parity or (row.parity is None and row.baseline is None)]
    sound = [row for row in agreeing if not row.metadata.failure]
    suitable = sorted((r for r in sound if r.measurement.p90_ms <= budget_ms), key=lambda r: r.measurement.p90_ms)
    if not suitable:
        fastest = min((r.measurement.p90_ms for r in sound), default=None)
        why = "none passed its parity check" if fastest is None else f"the fastest has a p90 of {fastest:.2f} ms"
        return Recommendation(task, None, f"nothing within {budget_ms:g} ms: {why}")
    evaluated = [(row, row.accuracy) for row in suitable if row.accuracy is not None]
    if not evaluated:
        return Recommendation(task, suitable[0], "the fastest; accuracy was not measured (--data adds it)")
    if max_nme_loss is not None and task == Task.LANDMARKS.value:
        known = [r.accuracy.value for r in report.rows if r.accuracy is not None and _has(r, Metric.NME)]
        max_nme = min(known) + max_nme_loss
        within = [row for row, accuracy in evaluated if accuracy.value <= max_nme]
        if not within:
            return Recommendation(task, None, f"nothing within {budget_ms:g} ms has an NME of {max_nme:.2f} % or less")
        return Recommendation(task, within[0], f"the fastest with an NME of {max_nme:.2f} % or less")
    best, best_accuracy = max(evaluated, key=lambda pair: _goodness(pair[1]))
    fastest_equal = next(row for row, accuracy in evaluated if not _is_worse(accuracy, best_accuracy))
    if fastest_equal is best:
        return Recommendation(task, best, "the most accurate within the budget")
    return Recommendation(
        task, fastest_equal, f"faster than {best.measurement.description}, and not significantly less accurate"
    )


def _goodness(accuracy: Accuracy) -> float:
    return accuracy.value if accuracy.metric.higher_is_better else -accuracy.value


def _is_worse(accuracy: Accuracy, best: Accuracy) -> bool:
    """Return whether an accuracy is below the best in more than 97.5 % of their common bootstrap draws."""
    difference = np.array(accuracy.replicates) - np.array(best.replicates)
    if accuracy.metric.higher_is_better:
        difference = -difference
    return bool(np.quantile(difference, 0.025) > 0)


def _has(row: Row, metric: Metric) -> bool:
    return row.accuracy is not None and row.accuracy.metric is metric
