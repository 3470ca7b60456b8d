"""Recommendation of the model to ship: within a latency budget, by accuracy."""

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
"""Providers of mien's commands; rows of PyTorch have others, such as eager-cpu or compile-cuda."""
SHIPPED_FILE = "shipped"
REFERENCE_FILE = "torchvision"
"""File name of the reference network, which is measured for comparison and never recommended."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The recommended candidate of a task.

    Attributes:
        task: The task; of a foreign model, its name.
        row: The recommended row; None if nothing fits.
        reason: Why this row, or why none.
    """

    task: str
    row: Row | None
    reason: str


def parse_budget(text: str) -> float:
    """Parse a duration such as ``8ms``, and return it in ms.

    Raises:
        InputError: Another form, or zero.
    """
    found = _BUDGET.match(text)
    if found is None or float(found.group(1)) == 0:
        raise InputError(f"wanted a duration such as 8ms, found {text!r}")
    return float(found.group(1)) * _IN_MS[found.group(2)]


def recommend(report: BenchReport, budget_ms: float, *, max_nme_loss: float | None = None) -> list[Recommendation]:
    """Recommend one candidate for each task of a report.

    A candidate fits if its p90 is within the budget (half of all frames exceed the median, and p99 of a few hundred
    calls rests on one or two of them) and its parity holds. Baselines need PyTorch and are never recommended. Of the
    candidates that fit, the most accurate wins, or the fastest of those that are not significantly worse. Without
    accuracy, the fastest wins.

    Args:
        report: The benchmark report.
        budget_ms: Limit of the p90 of a call.
        max_nme_loss: For landmark models, recommend the fastest within this many points of NME of the most accurate
            model measured.

    Raises:
        InputError: `max_nme_loss` without a landmark model whose NME was measured.
    """
    rows = _candidates(report)
    tasks = list(dict.fromkeys(map(_task_of, rows)))
    if max_nme_loss is not None and not any(_has(row, Metric.NME) for row in rows):
        raise InputError(
            "--max-nme-loss needs the NME of a landmark model; pass --data with a folder of labelled landmarks"
        )
    return [_recommendation(task, report, rows, budget_ms, max_nme_loss) for task in tasks]


def command_of(row: Row) -> str:
    """Return the shell command that uses a candidate."""
    d, file = row.measurement.description, row.metadata.file
    threads = f" --threads {d.threads}" if d.threads else ""
    run = f"--provider {d.provider}{threads}"
    made = ""
    if file.lower().endswith(".pt"):
        exported = f"{file[: -len('.pt')]}.onnx"
        made = f"mien export {shlex.quote(file)} -o {shlex.quote(exported)} && "
        file = exported
    if d.task == Task.CLASSIFY.value:
        return f"{made}mien predict PICTURES --model {shlex.quote(file)} {run}"
    if d.task not in _OPTION:
        return f"{file} on {d.provider} (mien has no command for a foreign model)"
    named = "" if file == SHIPPED_FILE else f"{_OPTION[d.task]} {shlex.quote(file)} "
    return f"{made}mien webcam {named}{run}"


def _candidates(report: BenchReport) -> list[Row]:
    """Rows that could be shipped, of each task at its most complete level and smallest batch (a budget is per face)."""
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
    """Task of a row; a foreign model, whose task is unknown, counts as its own."""
    return row.measurement.description.task or row.measurement.description.model


def _recommendation(
    task: str, report: BenchReport, candidates: Sequence[Row], budget_ms: float, max_nme_loss: float | None
) -> Recommendation:
    rows = [row for row in candidates if _task_of(row) == task]
    held = [row for row in rows if row.parity or (row.parity is None and row.baseline is None)]
    sound = [row for row in held if not row.metadata.failure]
    fitting = sorted((r for r in sound if r.measurement.p90_ms <= budget_ms), key=lambda r: r.measurement.p90_ms)
    if not fitting:
        fastest = min((r.measurement.p90_ms for r in sound), default=None)
        why = "no parity holds" if fastest is None else f"the fastest has a p90 of {fastest:.2f} ms"
        return Recommendation(task, None, f"nothing within {budget_ms:g} ms: {why}")
    measured = [row for row in fitting if row.accuracy is not None]
    if not measured:
        return Recommendation(task, fitting[0], "the fastest; accuracy was not measured (--data adds it)")
    if max_nme_loss is not None and task == Task.LANDMARKS.value:
        everything = [r.accuracy.value for r in report.rows if r.accuracy is not None and _has(r, Metric.NME)]
        allowed = min(everything) + max_nme_loss
        within = [row for row in measured if row.accuracy is not None and row.accuracy.value <= allowed]
        if not within:
            return Recommendation(task, None, f"nothing within {budget_ms:g} ms has an NME of {allowed:.2f} % or less")
        return Recommendation(task, within[0], f"the fastest with an NME of {allowed:.2f} % or less")
    best = min(measured, key=_badness)
    equal = [row for row in measured if not _is_worse(row.accuracy, best.accuracy)]
    if equal[0] is best:
        return Recommendation(task, best, "the most accurate within the budget")
    return Recommendation(
        task, equal[0], f"faster than {best.measurement.description}, and not significantly less accurate"
    )


def _badness(row: Row) -> float:
    accuracy = row.accuracy
    if accuracy is None:
        raise ValueError(f"{row.name} has no accuracy")
    return -accuracy.value if accuracy.metric.higher_is_better else accuracy.value


def _is_worse(one: Accuracy | None, best: Accuracy | None) -> bool:
    """Tell whether it is worse in more than 97.5 % of the bootstrap draws, which are the same for both."""
    if one is None or best is None or one is best:
        return False
    difference = np.array(one.replicates) - np.array(best.replicates)
    if one.metric.higher_is_better:
        difference = -difference
    return bool(np.quantile(difference, 0.025) > 0)


def _has(row: Row, metric: Metric) -> bool:
    return row.accuracy is not None and row.accuracy.metric is metric
