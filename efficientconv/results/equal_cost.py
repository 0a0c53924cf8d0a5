"""A model's accuracy between its widths, and the cost at which this model would be as accurate as another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from efficientconv.results.statistics import Comparison, Difference

T = TypeVar("T")
GRID = 200  # number of costs between the ends of a curve at which a difference is tested
NEAR_END = 0.03  # share of a cost: budgets are met this closely, so a row this little beyond an end is compared with the end


@dataclass(frozen=True)
class Needed:
    """The cost at which a curve has a row's accuracy, and the interval of this cost; None if there is only one run.

    0: less than the cost of the curve's cheapest row. Infinite: more than the cost of its most expensive row.
    """

    cost: float
    low: float | None
    high: float | None


class Curve:
    """Mean accuracies of rows of one model, joined by straight lines over the logarithm of the cost.

    Rows that are no more accurate than a cheaper row are left out. More MACs always give more accuracy here, but more time
    does not: a width may be both slow and inaccurate, and nobody would choose this width.

    Args:
        costs: the cost of each row that has runs; at least one.
        errors: the standard error of each cost as a share of this cost, also of the rows that are compared with the curve.
            Counted costs have none.
    """

    def __init__(
        self, comparison: Comparison, costs: Mapping[str, float], errors: Mapping[str, float] = MappingProxyType({})
    ):
        self.comparison, self.errors = comparison, errors
        self.rows = front(costs, costs.__getitem__, lambda row: comparison.contrast({row: 1.0}).mean)
        self.costs = [costs[row] for row in self.rows]

    def difference(self, row: str, cost: float) -> Difference | None:
        """The row's accuracy minus the curve's at `cost`; None if the curve does not reach `cost`, or the row has no run.

        The error of measured costs moves the row along the curve. The standard error of the difference includes how far the
        curve's accuracy moves within this error.
        """
        if not self.costs[0] * (1 - NEAR_END) <= cost <= self.costs[-1] * (1 + NEAR_END):
            return None
        found, error = self._contrast(row, cost), self._error(row, cost)
        if not error or found is None or found.std_error is None:
            return found
        less, more = (self._contrast(row, cost * math.exp(sign * error)).mean for sign in (-1, 1))
        moved = abs(less - more) / 2
        return replace(found, std_error=math.hypot(found.std_error, moved), cost_error=moved)

    def _contrast(self, row: str, cost: float) -> Difference | None:
        return self.comparison.contrast({row: 1.0} | {other: -weight for other, weight in self._weights(cost).items()})

    def _error(self, row: str, cost: float) -> float:
        """The standard error of the logarithm of row's cost over the curve's."""
        parts = {row: 1.0} | self._weights(cost)
        return math.sqrt(sum((share * self.errors.get(name, 0.0)) ** 2 for name, share in parts.items()))

    def needed(self, row: str) -> Needed:
        """The cost that the curve needs for the row's accuracy.

        The interval holds every cost at which the interval of the row's difference from the curve contains 0 (test
        inversion, as Fieller's).
        """
        grid = np.geomspace(self.costs[0], self.costs[-1], GRID)
        grid[-1] = self.costs[-1]
        differences = [self.difference(row, cost) for cost in grid]
        means = np.array([difference.mean for difference in differences])
        cost = _last(grid, means)
        if any(difference.std_error is None for difference in differences):
            return Needed(cost, None, None)
        reach = np.array([difference.half for difference in differences])
        return Needed(cost, _first(grid, reach - means), _last(grid, means + reach))

    def _weights(self, cost: float) -> dict[str, float]:
        """The weights of the rows on both sides of `cost`, or of the last row if `cost` lies beyond the curve."""
        shares = [np.interp(math.log(cost), np.log(self.costs), unit) for unit in np.eye(len(self.rows))]
        return {row: float(share) for row, share in zip(self.rows, shares) if share}


def front(networks: Iterable[T], cost: Callable[[T], float], accuracy: Callable[[T], float]) -> list[T]:
    """The Pareto front: the networks that are more accurate than all cheaper ones, the cheapest first."""
    found: list[T] = []
    for network in sorted(networks, key=lambda network: (cost(network), -accuracy(network))):
        if not found or accuracy(network) > accuracy(found[-1]):
            found.append(network)
    return found


def _first(grid: np.ndarray, values: np.ndarray) -> float:
    """The cost from which `values` are 0 or more; 0: from the beginning; infinite: nowhere."""
    found = np.flatnonzero(values >= 0)
    if not len(found):
        return math.inf
    return 0.0 if found[0] == 0 else _root(grid, values, found[0] - 1)


def _last(grid: np.ndarray, values: np.ndarray) -> float:
    """The cost up to which `values` are 0 or more; infinite: to the end; 0: nowhere."""
    found = np.flatnonzero(values >= 0)
    if not len(found):
        return 0.0
    return math.inf if found[-1] == len(grid) - 1 else _root(grid, values, found[-1])


def _root(grid: np.ndarray, values: np.ndarray, i: int) -> float:
    """The root between grid[i] and the next cost, linear in the logarithm of the cost."""
    share = values[i] / (values[i] - values[i + 1])
    return float(grid[i] ** (1 - share) * grid[i + 1] ** share)
