"""Builds a `BenchReport`: compares rows with their baselines, provided their outputs agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...runtime.errors import InputError
from ..parity.parity import ParityGate
from ..timing.environment import Environment, environment_warnings
from ..timing.measurement import Measurement
from ..timing.speedup import MIN_ROUNDS, measurement_warnings, paired_ratio
from .report import BenchReport, FailedCandidate, Row, RunConditions


def build_report(
    rows: Sequence[Row],
    environment: Environment,
    *,
    baseline_of: Mapping[str, str],
    failed: Sequence[FailedCandidate] = (),
    conditions: RunConditions | None = None,
) -> BenchReport:
    """Compare each row named in `baseline_of` with its baseline, provided its parity check passed.

    Args:
        rows: Rows of the measured candidates, with parity but without ratios.
        environment: The machine, described before the run so that its load average excludes the benchmark itself.
        baseline_of: Name of each candidate's baseline. If the baseline `failed`, the row gets a warning and no ratio.
        failed: Candidates that could not be measured.
        conditions: Conditions of the run.

    Raises:
        InputError: A name was not measured or was measured twice, or a baseline has another batch size or was measured
            in another run.
    """
    by_name = {row.name: row for row in rows}
    gone = {one.description.name for one in failed}
    unknown = {*baseline_of, *baseline_of.values()} - set(by_name) - gone
    if unknown or len(by_name) < len(rows):
        raise InputError(
            f"not measured: {', '.join(sorted(unknown)) or 'none'}; measured: {', '.join(row.name for row in rows)}"
        )
    compared = []
    for row in rows:
        baseline = baseline_of.get(row.name)
        warnings = [*measurement_warnings(row.measurement), *row.metadata.warnings()]
        if baseline in gone:
            warnings.append(f"no ratio: its baseline {baseline} failed")
            baseline = None
        withheld = None if baseline is None else _obstacle(row.measurement, row.parity)
        ratio = None
        if baseline is not None and withheld is None:
            ratio = paired_ratio(by_name[baseline].measurement, row.measurement)
        compared.append(replace(row, baseline=baseline, ratio=ratio, withheld=withheld, warnings=tuple(warnings)))
    warnings_of_all = [*environment_warnings(environment), *([] if conditions is None else conditions.warnings())]
    return BenchReport(environment, tuple(compared), tuple(warnings_of_all), tuple(failed), conditions)


def _obstacle(measurement: Measurement, parity: ParityGate | None) -> str | None:
    if parity is None:
        return "its parity was not checked"
    if not parity:
        return f"its parity check failed ({parity})"
    rounds = len(measurement.rounds_ns)
    return None if rounds >= MIN_ROUNDS else f"an interval needs {MIN_ROUNDS} rounds; found {rounds}"
