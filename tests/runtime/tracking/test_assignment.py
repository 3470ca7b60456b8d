from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from mien.runtime.tracking.assignment import assign
from mien.runtime.values import FloatArray


def brute_force(cost: FloatArray, limit: float) -> tuple[int, float]:
    """Number of pairs and total cost of the best assignment: most pairs, then lowest cost."""
    if cost.shape[0] > cost.shape[1]:
        cost = cost.T
    best = (0, 0.0)
    for columns in permutations(range(cost.shape[1]), cost.shape[0]):
        made = [c for c in cost[range(cost.shape[0]), columns] if c <= limit]
        best = min(best, (-len(made), float(sum(made))))
    return -best[0], best[1]


@pytest.mark.parametrize("seed", range(150))
def test_no_assignment_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0, 1, rng.integers(1, 6, 2)).round(int(rng.integers(1, 4)))  # with and without ties
    limit = float(rng.uniform(0.2, 1.2))
    pairs = assign(cost, limit)
    rows, columns = {r for r, _ in pairs}, {c for _, c in pairs}
    assert len(rows) == len(columns) == len(pairs)
    assert all(cost[pair] <= limit for pair in pairs)
    count, total = brute_force(cost, limit)
    assert len(pairs) == count and sum(cost[pair] for pair in pairs) == pytest.approx(total)


def test_taking_the_best_pair_first_is_not_best() -> None:
    assert assign(np.array([[0.0, 0.1], [0.1, 5.0]]), 10) == [(0, 1), (1, 0)]


def test_nothing_to_assign() -> None:
    assert assign(np.empty((0, 3)), 1) == assign(np.empty((3, 0)), 1) == []
    assert assign(np.full((2, 2), 2.0), 1) == []
