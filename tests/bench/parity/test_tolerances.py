from __future__ import annotations

import numpy as np
import pytest

from mien.bench.parity.compare_outputs import compare_outputs
from mien.bench.parity.tolerances import TOLERANCES
from mien.runtime.models.spec import ModelSpec, Precision, Task

BOXES = {"boxes": np.array([[[10.0, 10, 50, 50]]]), "scores": np.array([[0.9]])}
FACE = {"landmarks": np.random.default_rng(0).uniform(0.2, 0.8, (1, 68, 3)), "presence": np.ones(1)}


@pytest.mark.parametrize(
    ("precision", "moved_px", "holds"),
    [
        (Precision.FP32, 0.04, True),
        (Precision.FP32, 0.06, False),
        (Precision.FP16, 1.4, True),  # a box may move further than a landmark
        (Precision.FP16, 1.6, False),
        (Precision.INT8, 5.9, True),  # 15 % of the box's side
        (Precision.INT8, 6.1, False),
    ],
)
def test_boxes_may_move_as_far_as_their_precision_allows(precision: Precision, moved_px: float, holds: bool) -> None:
    spec = ModelSpec(Task.DETECTOR, (320, 320), ("boxes", "scores"))
    moved = BOXES | {"boxes": BOXES["boxes"] + moved_px}
    assert bool(compare_outputs(spec, precision, BOXES, moved)) is holds


@pytest.mark.parametrize(
    ("precision", "moved_px", "holds"), [(Precision.FP16, 0.2, True), (Precision.FP16, 0.3, False)]
)
def test_landmarks_may_not(precision: Precision, moved_px: float, holds: bool) -> None:
    spec = ModelSpec(Task.LANDMARKS, (100, 100), ("landmarks", "presence"))
    moved = FACE | {"landmarks": FACE["landmarks"] + np.array([moved_px / 100, 0, 0])}
    assert bool(compare_outputs(spec, precision, FACE, moved)) is holds


def test_single_landmarks_may_move_in_int8_but_not_a_face() -> None:
    spec = ModelSpec(Task.LANDMARKS, (100, 100), ("landmarks", "presence"))
    moved = FACE | {"landmarks": FACE["landmarks"].copy()}
    moved["landmarks"][0, 30, 0] += 0.08  # 8 px, of which a face's mean has 0.12
    assert compare_outputs(spec, Precision.INT8, FACE, moved)
    assert not compare_outputs(spec, Precision.FP16, FACE, moved)
    assert not compare_outputs(spec, Precision.INT8, FACE, moved | {"landmarks": FACE["landmarks"] + [0.08, 0, 0]})


@pytest.mark.parametrize(("output", "allowed"), [("probabilities", "score"), ("logits", "logit")])
def test_a_classifiers_output_has_the_tolerance_of_its_kind(output: str, allowed: str) -> None:
    spec = ModelSpec(Task.CLASSIFY, (100, 100), (output,))
    limit = getattr(TOLERANCES[Precision.FP16], allowed)
    wanted = {output: np.array([[0.2, 0.8]])}
    assert compare_outputs(spec, Precision.FP16, wanted, {output: wanted[output] + 0.9 * limit})
    assert not compare_outputs(spec, Precision.FP16, wanted, {output: wanted[output] + 1.1 * limit})


def test_ages_are_compared_in_years() -> None:
    spec = ModelSpec(Task.AGE_GENDER, (100, 100), ("age", "female"))
    wanted = {"age": np.array([30.0]), "female": np.array([0.5])}
    assert compare_outputs(spec, Precision.FP32, wanted, wanted | {"age": np.array([30.009])})
    assert not compare_outputs(spec, Precision.FP32, wanted, wanted | {"age": np.array([30.02])})
