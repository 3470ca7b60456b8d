from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mien.bench.parity.compare_outputs import compare_detections, compare_landmarks
from mien.bench.parity.parity import Parity, ParityGate, Unit, parity_of
from mien.bench.parity.tolerances import Tolerance
from mien.runtime.errors import CheckFailed
from mien.runtime.values import FloatArray

Outputs = dict[str, FloatArray]
USUAL = Tolerance(px=0.25, years=0.25, score=0.02, logit=0.1, box_px=1.0)
WIDE = Tolerance(px=1e9, years=1e9, score=1e9, logit=1e9)


def landmark_outputs() -> Outputs:
    noise = np.random.default_rng(0)
    return {
        "landmarks": noise.random((4, 68, 3)).astype(np.float32),
        "presence": np.full(4, 0.9, dtype=np.float32),
    }


def detector_outputs() -> Outputs:
    """Two pictures of five rows, of which the first two hold a face."""
    boxes = np.random.default_rng(0).uniform(0, 64, (2, 5, 4)).astype(np.float32)
    scores = np.tile(np.array([0.9, 0.2, 0.04, 0.01, 0.0], dtype=np.float32), (2, 1))
    return {"boxes": boxes, "scores": scores}


def changed(outputs: Outputs, name: str, index: tuple[int, ...], by: float) -> Outputs:
    values = outputs[name].copy()
    values[index] += by
    return outputs | {name: values}


def test_equal_outputs_pass_with_no_deviation() -> None:
    for gate in (
        compare_landmarks(landmark_outputs(), landmark_outputs(), USUAL, size_px=112),
        compare_detections(detector_outputs(), detector_outputs(), USUAL),
    ):
        assert gate
        assert [part.unit for part in gate.parts] == [Unit.PX, Unit.SCORE]
        assert all(part.max == part.mean == part.p99 == 0 for part in gate.parts)


def test_landmarks_are_compared_by_distance_in_pixels() -> None:
    reference = landmark_outputs()
    moved = changed(changed(reference, "landmarks", (1, 5, 0), 3 / 100), "landmarks", (1, 5, 2), 4 / 100)
    points, presence = compare_landmarks(reference, moved, replace(USUAL, px=5.1), size_px=100).parts
    assert points.max == pytest.approx(5, rel=1e-4)
    assert points.mean == pytest.approx(5 / (4 * 68), rel=1e-4)
    assert points.count == 4 * 68
    assert points
    assert presence
    gate = compare_landmarks(reference, moved, replace(USUAL, px=4.9), size_px=100)
    assert not gate
    assert "max 5 px (tolerance 4.9)" in str(gate)


def test_presence_alone_can_fail_the_gate() -> None:
    reference = landmark_outputs()
    points, presence = compare_landmarks(
        reference, changed(reference, "presence", (2,), -0.1), replace(USUAL, score=0.05), size_px=112
    ).parts
    assert points
    assert not presence
    assert not ParityGate((points, presence))


def test_boxes_count_where_the_reference_sees_a_face() -> None:
    reference = detector_outputs()
    boxes, scores = compare_detections(reference, changed(reference, "boxes", (0, 1, 3), -2.0), USUAL).parts
    assert boxes.max == pytest.approx(2, rel=1e-5)
    assert boxes.count == 4
    assert not boxes
    assert scores
    assert compare_detections(reference, changed(reference, "boxes", (0, 2, 3), -2.0), USUAL)
    invented = changed(reference, "scores", (1, 4), 0.5)
    assert not compare_detections(reference, invented, USUAL)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_passes(value: float) -> None:
    landmarks, detections = landmark_outputs(), detector_outputs()
    places: list[tuple[str, tuple[int, ...]]] = [("landmarks", (0, 0, 2)), ("presence", (3,))]
    for name, index in places:
        bad = changed(landmarks, name, index, value)
        for pair in ((landmarks, bad), (bad, landmarks), (bad, bad)):
            assert not compare_landmarks(*pair, WIDE, size_px=112)
    places = [("boxes", (0, 0, 0)), ("boxes", (0, 4, 0)), ("scores", (1, 4))]
    for name, index in places:
        bad = changed(detections, name, index, value)
        for pair in ((detections, bad), (bad, detections), (bad, bad)):
            assert not compare_detections(*pair, WIDE)


def test_comparing_nothing_is_no_parity() -> None:
    no_face = detector_outputs()
    no_face["scores"] = no_face["scores"] * 0
    boxes, scores = compare_detections(no_face, no_face, USUAL).parts
    assert not boxes
    assert scores
    assert str(boxes) == "nothing to compare in px"
    assert not ParityGate(())
    assert not parity_of(np.empty(0), unit=Unit.NME, tolerance=1.0)


def test_missing_outputs_and_other_shapes_are_errors() -> None:
    reference = landmark_outputs()
    with pytest.raises(CheckFailed, match="candidate has no output 'presence'"):
        compare_landmarks(reference, {"landmarks": reference["landmarks"]}, USUAL, size_px=112)
    with pytest.raises(CheckFailed, match=r"\(4, 68, 3\), the candidate \(3, 68, 3\)"):
        compare_landmarks(reference, reference | {"landmarks": reference["landmarks"][:3]}, USUAL, size_px=112)
    detections = detector_outputs()
    detections["scores"] = detections["scores"][:, :4]
    with pytest.raises(CheckFailed, match="one score per box"):
        compare_detections(detections, detections, USUAL)


def test_summary_of_deviations() -> None:
    parity = parity_of(np.arange(1.0, 201.0).reshape(2, 100), unit=Unit.NME, tolerance=200.0)
    assert parity == Parity(unit=Unit.NME, tolerance=200.0, max=200.0, mean=100.5, p99=198.0, count=200)
    assert parity


def test_half_precision_is_compared_in_full() -> None:
    reference = {"landmarks": np.full((1, 68, 3), 0.5), "presence": np.ones(1)}
    half = {name: value.astype(np.float16) for name, value in reference.items()}
    assert compare_landmarks(reference, half, replace(USUAL, px=0.0, score=0.0), size_px=112)
