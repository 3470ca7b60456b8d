"""Outputs that nobody knows the meaning of: floats by their scale, the rest by what is equal."""

from __future__ import annotations

import numpy as np
import pytest

from mien.bench.parity.any_model import SMALLEST_SCALE, ForeignParity, compare_values
from mien.runtime.errors import CheckFailed, ModelError


def compare(wanted: object, found: object) -> ForeignParity:
    return compare_values(["out"], [[wanted]], [[found]])


def test_floats_are_judged_by_the_largest_value_of_all_calls() -> None:
    wanted = [[np.float32([1, -200])], [np.float32([2, 3])]]
    near = compare_values(["out"], wanted, [[np.float32([1, -200])], [np.float32([2, 6])]])
    assert near and near.outputs["out"].max == pytest.approx(1.5)
    far = compare_values(["out"], wanted, [[np.float32([1, -200])], [np.float32([2, 8])]])
    assert not far and str(far) == "out 2.5 % of its largest value (tolerance 2)"


def test_nan_and_infinity_must_stand_where_they_stood() -> None:
    odd = np.float32([np.nan, np.inf, -np.inf, 1])
    assert compare(odd, odd.copy())
    for i, value in ((0, 0), (1, -np.inf), (2, 7), (3, np.nan), (3, np.inf)):
        other = odd.copy()
        other[i] = value
        assert compare(odd, other).outputs["out"].max == np.inf and not compare(odd, other)


@pytest.mark.parametrize("kind", [np.int64, np.bool_, np.uint8])
def test_of_other_outputs_the_share_of_equal_ones_counts(kind: type[np.generic]) -> None:
    ids = np.zeros((1, 10, 20), kind)
    one, many = ids.copy(), ids.copy()
    one[0, 0, :2] = 1
    many[0, 0, :3] = 1
    assert compare(ids, one) and not compare(ids, many)
    assert str(compare(ids, many)) == "out 1.5 % of a call's values unequal (tolerance 1)"
    assert compare(np.int64([3]), np.int64([3])) and not compare(np.int64([3]), np.int64([4]))


def test_an_output_without_a_signal_is_no_proof_but_can_fail() -> None:
    tiny = np.full(4, SMALLEST_SCALE / 8, np.float32)
    for nothing in (tiny, np.zeros(4, np.float32), np.zeros((0, 4), np.float32), np.full(2, np.nan, np.float32)):
        alone = compare(nothing, nothing)
        assert not alone and not alone.failed and str(alone) == "no proof, as empty or below 6e-05: out"
        beside = compare_values(["a", "b"], [[nothing, np.ones(1)]], [[nothing, np.ones(1)]])
        assert beside and beside.silent == {"a"} and "no proof" in str(beside)
    assert compare(tiny, tiny + np.float32(0.01)).failed
    assert compare(tiny, 2 * tiny).failed  # an eighth of the smallest scale


def test_another_shape_and_no_tensor() -> None:
    with pytest.raises(CheckFailed, match=r"out has shape \(2, 4\), but \(3, 4\) in float32"):
        compare(np.ones((3, 4)), np.ones((2, 4)))
    with pytest.raises(ModelError, match="its output out is a list"):
        compare([np.ones(3)], [np.ones(3)])
