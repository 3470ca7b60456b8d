"""Which of the measured artifacts to ship: within a budget of time, and for what loss of accuracy."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mien.bench.accuracy.accuracy import Accuracy, Metric
from mien.bench.report.report import BenchReport, Row
from mien.bench.timing.measurement import Level
from mien.runtime.errors import InputError
from mien.runtime.models.runner import Provider
from mien.runtime.models.spec import Task

_BUDGET = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|us|µs)\s*$")
_IN_MS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "µs": 1e-3}
_OPTION = {Task.LANDMARKS.value: "--model", Task.DETECTOR.value: "--detector", Task.AGE_GENDER.value: "--age-gender"}
_PROVIDERS = {provider.value for provider in Provider}
"""What mien's commands take; PyTorch's rows are called eager-cpu, compile-cuda, …"""
SHIPPED_FILE = "shipped"
REFERENCE_FILE = "torchvision"
"""A network to measure by, and nothing to ship."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The artifact of one task, or foreign model, that fits, and why it and not another; None: nothing fits."""

    task: str
    row: Row | None
    reason: str


def parse_budget(text: str) -> float:
    """Read a time such as ``8ms`` as ms.

    Raises:
        InputError: another form, or no time at all.
    """
    found = _BUDGET.match(text)
    if found is None or float(found.group(1)) == 0:
        raise InputError(f"wanted a time such as 8ms, found {text!r}")
    return float(found.group(1)) * _IN_MS[found.group(2)]


def recommend(report: BenchReport, budget_ms: float, *, max_nme_loss: float | None = None) -> list[Recommendation]:
    """One choice for each task that was measured.

    What fits: p90 within the budget, for a median breaks its promise every other frame, and p99 of some hundred calls
    is one of two of them. A candidate whose parity is false or was not checked does not fit; baselines, which need
    PyTorch, are no candidates. Of those that fit the most accurate is taken, and the fastest of those that cannot be
    told from it; with `max_nme_loss` (points of NME of a landmark model, to the most accurate measured) the fastest
    that loses no more. Where accuracy was not measured, the fastest.

    Raises:
        InputError: `max_nme_loss` without a landmark model whose NME was measured.
    """
    rows = _candidates(report)
    tasks = list(dict.fromkeys(map(_task_of, rows)))
    if max_nme_loss is not None and not any(_has(row, Metric.NME) for row in rows):
        raise InputError("--max-nme-loss needs the NME of a landmark model; give --data a folder of labelled landmarks")
    return [_choice(task, report, rows, budget_ms, max_nme_loss) for task in tasks]


def command_of(row: Row) -> str:
    """What to type to use an artifact."""
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
        return f"(mien has no command for a foreign file) {file} on {d.provider}"
    named = "" if file == SHIPPED_FILE else f"{_OPTION[d.task]} {shlex.quote(file)} "
    return f"{made}mien webcam {named}{run}"


def _candidates(report: BenchReport) -> list[Row]:
    """What could be shipped: of each task at its most whole level and smallest batch, for a budget is one face's."""
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
    """A task; of foreign files nobody knows it, and each model is one of its own."""
    return row.measurement.description.task or row.measurement.description.model


def _choice(
    task: str, report: BenchReport, candidates: Sequence[Row], budget_ms: float, max_nme_loss: float | None
) -> Recommendation:
    rows = [row for row in candidates if _task_of(row) == task]
    held = [row for row in rows if row.parity or (row.parity is None and row.baseline is None)]
    sound = [row for row in held if not row.metadata.failure]
    fitting = sorted((r for r in sound if r.measurement.p90_ms <= budget_ms), key=lambda r: r.measurement.p90_ms)
    if not fitting:
        fastest = min((r.measurement.p90_ms for r in sound), default=None)
        told = "no parity holds" if fastest is None else f"the fastest has a p90 of {fastest:.2f} ms"
        return Recommendation(task, None, f"nothing within {budget_ms:g} ms: {told}")
    measured = [row for row in fitting if row.accuracy is not None]
    if not measured:
        return Recommendation(task, fitting[0], "the fastest; accuracy was not measured, which --data does")
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
        return Recommendation(task, best, "the most accurate that fits")
    return Recommendation(
        task, equal[0], f"as accurate as {best.measurement.description}, as far as the data can tell, and faster"
    )


def _badness(row: Row) -> float:
    accuracy = row.accuracy
    if accuracy is None:
        raise ValueError(f"{row.name} has no accuracy")
    return -accuracy.value if accuracy.metric.higher_is_better else accuracy.value


def _is_worse(one: Accuracy | None, best: Accuracy | None) -> bool:
    """Whether it is worse in more than 97.5 % of the draws, which are the same for both."""
    if one is None or best is None or one is best:
        return False
    difference = np.array(one.replicates) - np.array(best.replicates)
    if one.metric.higher_is_better:
        difference = -difference
    return bool(np.quantile(difference, 0.025) > 0)


def _has(row: Row, metric: Metric) -> bool:
    return row.accuracy is not None and row.accuracy.metric is metric
