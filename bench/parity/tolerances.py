"""Tolerances of parity by precision, and the comparison of two models by task."""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.models.runner import Runner
from ...runtime.models.spec import ModelSpec, Precision, Task
from ...runtime.values import Image
from .parity import (
    Outputs,
    ParityGate,
    Unit,
    compare_age_gender,
    compare_classes,
    compare_detections,
    compare_faces,
    compare_landmarks,
)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Maximum deviations from the reference.

    Attributes:
        px: Distance of a point, or shift of a box's side, in px of the model's input.
        years: Difference of an age.
        score: Difference of a score or probability.
        logit: Difference of a logit.
        nme: NME of a face in percent, instead of `px`; None: compare point by point.
        box_px: Shift of a box's side, if other than `px`.
        box_percent: Shift of a box's side in percent of its longer side; None: compare by `box_px`.
    """

    px: float
    years: float
    score: float
    logit: float
    nme: float | None = None
    box_px: float | None = None
    box_percent: float | None = None

    @property
    def box_shift(self) -> tuple[float, Unit]:
        """Shift that a box's side may have, and its unit."""
        if self.box_percent is not None:
            return self.box_percent, Unit.SIDE
        return self.px if self.box_px is None else self.box_px, Unit.PX


TOLERANCES = {
    Precision.FP32: Tolerance(px=0.05, years=0.01, score=0.001, logit=0.01),
    # Unlike others, ARM processors also accumulate in float16: in 28 scenes, boxes with low scores (under 0.1) moved
    # by up to 0.92 px, and reported ones by 0.32 px.
    Precision.FP16: Tolerance(px=0.25, years=0.25, score=0.02, logit=0.1, box_px=1.5),
    # Single points move in int8; the mean of a face must not. A box that is shifted by 15 % of its side still
    # overlaps by 0.74.
    Precision.INT8: Tolerance(px=4.0, years=3.0, score=0.1, logit=1.0, nme=1.5, box_percent=15.0),
}

# For a foreign model in fp16, whose outputs have unknown units; see `any_model.compare_values`. Networks lose 0.05 to
# 0.6 % of an output's scale. The limit is that of our own scores: two hundredths.
FOREIGN_SCALE = 2.0
"""Percent of a float output's largest value."""
FOREIGN_UNEQUAL = 1.0
"""Percent of the values of an integer output: the borders in a map of class ids move; a single id must be equal."""


def compare_outputs(spec: ModelSpec, precision: Precision, wanted: Outputs, found: Outputs) -> ParityGate:
    """Compare the outputs of a model with those of its reference, by its task.

    Args:
        spec: The model's description.
        precision: Precision of the candidate, which sets the tolerances.
        wanted: Outputs of the reference for a batch.
        found: Outputs of the candidate for the same batch.

    Raises:
        CheckFailed: An output is missing or has another shape.
    """
    tolerance = TOLERANCES[precision]
    if spec.task is Task.CLASSIFY:
        (output,) = spec.outputs
        allowed = tolerance.logit if output == "logits" else tolerance.score
        return compare_classes(wanted, found, output=output, tolerance_score=allowed)
    if spec.task is Task.AGE_GENDER:
        return compare_age_gender(wanted, found, tolerance_years=tolerance.years, tolerance_score=tolerance.score)
    if spec.task is Task.DETECTOR:
        shift, unit = tolerance.box_shift
        return compare_detections(wanted, found, tolerance=shift, unit=unit, tolerance_score=tolerance.score)
    if tolerance.nme is not None:
        return compare_faces(wanted, found, tolerance_nme=tolerance.nme, tolerance_score=tolerance.score)
    return compare_landmarks(
        wanted, found, size_px=spec.input_size[0], tolerance_px=tolerance.px, tolerance_score=tolerance.score
    )


def compare_runners(reference: Runner, candidate: Runner, batch: Image) -> ParityGate:
    """Compare two runners of a model on a batch (b, h, w, 3), within the tolerances of the candidate's precision."""
    return compare_outputs(reference.spec, candidate.precision, reference(batch), candidate(batch))
