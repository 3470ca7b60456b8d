"""What a model may differ from its reference, by the precision it computes in, and the comparison by task."""

from __future__ import annotations

from dataclasses import dataclass

from mien.bench.parity.parity import (
    Outputs,
    ParityGate,
    compare_age_gender,
    compare_classes,
    compare_detections,
    compare_faces,
    compare_landmarks,
)
from mien.runtime.models.runner import Runner
from mien.runtime.models.spec import ModelSpec, Precision, Task
from mien.runtime.values import Image


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What may differ: px of the model's input, years, scores and logits; nme: of a face's mean distance, percent.

    box_px: of a detector's boxes, where it is not `px`.
    """

    px: float
    years: float
    score: float
    logit: float
    nme: float | None = None
    box_px: float | None = None


TOLERANCES = {
    Precision.FP32: Tolerance(px=0.05, years=0.01, score=0.001, logit=0.01),
    # ARM processors also add up in float16, which others do not: boxes that are hardly believed (score under 0.1) then
    # moved by up to 0.92 px in 28 scenes, those that are shown by 0.32 px.
    Precision.FP16: Tolerance(px=0.25, years=0.25, score=0.02, logit=0.1, box_px=1.5),
    # Single points move: a face's mean is what int8 must keep.
    Precision.INT8: Tolerance(px=4.0, years=3.0, score=0.1, logit=1.0, nme=1.5),
}

# A foreign file in fp16, of whose outputs nobody knows the unit; see `foreign_parity.compare_values`. Networks lose
# 0.05 to 0.6 % of an output's scale. As of our own scores, two hundredths of it may go.
FOREIGN_SCALE = 2.0
"""Percent of a float output's largest value."""
FOREIGN_UNEQUAL = 1.0
"""Percent of the values of another kind of output: in a map of class ids borders move; a single id must be equal."""


def compare_outputs(spec: ModelSpec, precision: Precision, wanted: Outputs, found: Outputs) -> ParityGate:
    """Parity of a model's outputs `found` in `precision` with its reference's, `wanted`, on one batch.

    Raises:
        CheckFailed: an output is missing or has another shape.
    """
    tolerance = TOLERANCES[precision]
    if spec.task is Task.CLASSIFY:
        (output,) = spec.outputs
        allowed = tolerance.logit if output == "logits" else tolerance.score
        return compare_classes(wanted, found, output=output, tolerance_score=allowed)
    if spec.task is Task.AGE_GENDER:
        return compare_age_gender(wanted, found, tolerance_years=tolerance.years, tolerance_score=tolerance.score)
    if spec.task is Task.DETECTOR:
        box_px = tolerance.px if tolerance.box_px is None else tolerance.box_px
        return compare_detections(wanted, found, tolerance_px=box_px, tolerance_score=tolerance.score)
    if tolerance.nme is not None:
        return compare_faces(wanted, found, tolerance_nme=tolerance.nme, tolerance_score=tolerance.score)
    return compare_landmarks(
        wanted, found, size_px=spec.input_size[0], tolerance_px=tolerance.px, tolerance_score=tolerance.score
    )


def compare_runners(reference: Runner, candidate: Runner, batch: Image) -> ParityGate:
    """Parity of two runners of the same model on one batch, within what the candidate's precision may lose."""
    return compare_outputs(reference.spec, candidate.precision, reference(batch), candidate(batch))
