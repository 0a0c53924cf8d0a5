"""A model's accuracy between its widths, and what it would cost that model to be as accurate as another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from efficientconv.results.statistics import Comparison, Difference, t_quantile

GRID = 200  # costs between the ends of a curve at which a difference is tested
NEAR_END = 0.03  # of a cost: budgets are met as nearly, so that a row so little beyond an end is held against that end


@dataclass(frozen=True)
class Needed:
    """The cost at which a curve has a row's accuracy, and its interval; None where one run shows no spread.

    0: less than the curve's cheapest row costs; infinite: more than its dearest.
    """

    cost: float
    low: float | None
    high: float | None


class Curve:
    """Mean accuracies of rows of one model, joined by straight lines over the logarithm of the cost.

    Rows that are no more accurate than a cheaper one are left out. MACs always buy accuracy here, but time does not: a width
    may be both slow and inaccurate, and nobody who has that much time takes it.

    Args:
        costs: of those of its rows that have runs, one at least.
    """

    def __init__(self, comparison: Comparison, costs: Mapping[str, float]):
        self.comparison = comparison
        self.rows = _front(sorted(costs, key=costs.get), lambda row: comparison.contrast({row: 1.0}).mean)
        self.costs = [costs[row] for row in self.rows]

    def difference(self, row: str, cost: float) -> Difference | None:
        """Of the row's accuracy from the curve's at `cost`; None where the curve does not reach, or the row has no run."""
        if not self.costs[0] * (1 - NEAR_END) <= cost <= self.costs[-1] * (1 + NEAR_END):
            return None
        return self.comparison.contrast({row: 1.0} | {other: -weight for other, weight in self._weights(cost).items()})

    def needed(self, row: str) -> Needed:
        """In the interval is every cost at which the row's difference from the curve may be 0 by its own interval (test
        inversion, as Fieller's)."""
        grid = np.geomspace(self.costs[0], self.costs[-1], GRID)
        grid[-1] = self.costs[-1]
        differences = [self.difference(row, cost) for cost in grid]
        means = np.array([difference.mean for difference in differences])
        cost = _last(grid, means)
        if any(difference.std_error is None for difference in differences):
            return Needed(cost, None, None)
        reach = np.array([t_quantile(difference.df) * difference.std_error for difference in differences])
        return Needed(cost, _first(grid, reach - means), _last(grid, means + reach))

    def _weights(self, cost: float) -> dict[str, float]:
        """Of the rows on both sides of `cost`, or of the row at the end that it lies beyond."""
        shares = [np.interp(math.log(cost), np.log(self.costs), unit) for unit in np.eye(len(self.rows))]
        return {row: float(share) for row, share in zip(self.rows, shares) if share}


def _front(rows: Sequence[str], accuracy: Callable[[str], float]) -> list[str]:
    """Of rows from the cheapest to the dearest: those more accurate than all before them."""
    front: list[str] = []
    for row in rows:
        if not front or accuracy(row) > accuracy(front[-1]):
            front.append(row)
    return front


def _first(grid: np.ndarray, values: np.ndarray) -> float:
    """Where they first are 0 or more; 0: from the beginning; infinite: nowhere."""
    found = np.flatnonzero(values >= 0)
    if not len(found):
        return math.inf
    return 0.0 if found[0] == 0 else _root(grid, values, found[0] - 1)


def _last(grid: np.ndarray, values: np.ndarray) -> float:
    """Where they last are 0 or more; infinite: to the end; 0: nowhere."""
    found = np.flatnonzero(values >= 0)
    if not len(found):
        return 0.0
    return math.inf if found[-1] == len(grid) - 1 else _root(grid, values, found[-1])


def _root(grid: np.ndarray, values: np.ndarray, i: int) -> float:
    """Between grid[i] and the next, straight in the logarithm."""
    share = values[i] / (values[i] - values[i + 1])
    return float(grid[i] ** (1 - share) * grid[i + 1] ** share)
