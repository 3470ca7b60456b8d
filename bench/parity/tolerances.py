"""Parity tolerances by precision, and those of foreign models."""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.models.spec import Precision
from .parity import Unit


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Maximum deviations from the reference.

    Attributes:
        px: Distance of a point, or shift of a box's side, in px of the model's input.
        years: Difference of an age.
        score: Difference of a score or probability.
        logit: Difference of a logit.
        nme: NME of a face in percent, to compare instead of points; None: compare points.
        box_px: Shift of a box's side, if different from `px`.
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
    # ARM processors accumulate in float16 too, unlike others: in 28 scenes, boxes scored below 0.1 moved by up to
    # 0.92 px, and reported ones by 0.32 px.
    Precision.FP16: Tolerance(px=0.25, years=0.25, score=0.02, logit=0.1, box_px=1.5),
    # In int8 single points may move, but not the mean of a face. A box shifted by 15 % of its side still overlaps by
    # 0.74.
    Precision.INT8: Tolerance(px=4.0, years=3.0, score=0.1, logit=1.0, nme=1.5, box_percent=15.0),
}

# For foreign models in fp16; see `any_model.compare_values`. Networks typically deviate by 0.05 to 0.6 % of an output's
# scale; the limit equals that for mien's scores, 0.02.
FOREIGN_SCALE = 2.0
"""Percent of a float output's largest value."""
FOREIGN_UNEQUAL = 1.0
"""Percent of the values of an integer output: borders in a segmentation map may move, but a single id must match."""
