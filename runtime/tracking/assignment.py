"""Solves the assignment problem: pairs rows with columns at the lowest total cost."""

from __future__ import annotations

import numpy as np

from ..values import FloatArray

_FORBIDDEN = 1e6


def assign(cost: FloatArray, limit: float) -> list[tuple[int, int]]:
    """Pair rows with columns so that as many as possible are paired, at the lowest total cost.

    Shortest augmenting paths (Jonker and Volgenant 1987) in the form of Crouse, "On implementing 2D rectangular
    assignment algorithms", IEEE TAES 2016; cubic in the number of rows.

    Args:
        cost: Costs (n, m), at least 0.
        limit: Maximum cost of a pair.

    Returns:
        (row, column) pairs in row order.
    """
    if not cost.size:
        return []
    rows, columns = cost.shape
    if rows > columns:
        return sorted((row, column) for column, row in assign(cost.T, limit))
    bounded = np.where(cost <= limit, cost, _FORBIDDEN)
    row_of = np.full(columns, -1)
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    for first in range(rows):
        distance, through = np.full(columns, np.inf), np.full(columns, -1)
        done = np.zeros(columns, dtype=bool)
        visited = [first]
        row, length = first, 0.0
        while True:
            reached = length + bounded[row] - row_price[row] - column_price
            shorter = ~done & (reached < distance)
            distance[shorter], through[shorter] = reached[shorter], row
            column = int(np.where(done, np.inf, distance).argmin())
            length = float(distance[column])
            done[column] = True
            if row_of[column] < 0:
                break
            row = int(row_of[column])
            visited.append(row)
        column_of = {int(row_of[c]): c for c in np.flatnonzero(done).tolist() if row_of[c] >= 0}
        row_price[first] += length
        for other in visited[1:]:
            row_price[other] += length - distance[column_of[other]]
        column_price[done] -= length - distance[done]
        while True:  # reverse the path
            taker = int(through[column])
            row_of[column] = taker
            if taker == first:
                break
            column = column_of[taker]
    return sorted((row, c) for c, row in enumerate(row_of.tolist()) if row >= 0 and cost[row, c] <= limit)
