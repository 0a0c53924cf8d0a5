"""The premises of the pooled variance, tested each time: equal spreads, and no common effect of a seed on all models."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # scipy.stats takes 1 s, and is loaded at its first use

Groups = Mapping[str, Mapping[int, float]]  # accuracies, percent, by row and seed

REFUSED_BELOW = 0.05  # a premise whose test has a smaller p is refused


@dataclass(frozen=True)
class Premises:
    """The p of each test, None if the runs are too few; the pooled standard deviation and its degrees of freedom."""

    bartlett_p: float | None
    levene_p: float | None
    seeds_p: float | None
    pooled_std: float
    df: int

    @property
    def hold(self) -> bool:
        """Whether all premises that could be tested hold. False if there is nothing to pool."""
        tested = [p for p in (self.bartlett_p, self.levene_p, self.seeds_p) if p is not None]
        return self.bartlett_p is not None and min(tested) >= REFUSED_BELOW

    def __str__(self) -> str:
        tests = (
            ("equal spreads by Bartlett", self.bartlett_p), ("by Levene", self.levene_p),
            ("no effect of the seed, by analysis of variance,", self.seeds_p),
        )  # fmt: skip
        return ", ".join(f"{name} p = {'untested' if p is None else format(p, '.2f')}" for name, p in tests)


def premises_of(groups: Groups) -> Premises:
    repeated = [list(values.values()) for values in groups.values() if len(values) > 1]
    df = sum(len(values) - 1 for values in repeated)
    squares = sum(np.var(values, ddof=1) * (len(values) - 1) for values in repeated)
    bartlett, levene = (_spread_p(test, repeated) for test in (scipy.stats.bartlett, scipy.stats.levene))
    return Premises(bartlett, levene, seed_effect_p(groups), math.sqrt(squares / df) if df else math.nan, df)


def seed_effect_p(groups: Groups) -> float | None:
    """Analysis of variance, accuracy = row + seed: the p of the seeds' effect."""
    runs = [(row, seed, value) for row, by_seed in groups.items() for seed, value in by_seed.items()]
    if not runs:
        return None
    rows, seeds, accuracy = map(np.array, zip(*runs))
    by_row, by_seed = ((each[:, None] == np.unique(each)).astype(float) for each in (rows, seeds))
    rest, rank = _residual(by_row, accuracy)
    rest_with, rank_with = _residual(np.hstack([by_row, by_seed]), accuracy)
    effects, df = rank_with - rank, len(runs) - rank_with
    if effects < 1 or df < 1 or not rest_with > 0:
        return None
    return float(scipy.stats.f.sf((rest - rest_with) / effects / (rest_with / df), effects, df))


def _residual(design: np.ndarray, values: np.ndarray) -> tuple[float, int]:
    """The residual sum of squares of the design, and its rank."""
    fit, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    return float(np.sum((values - design @ fit) ** 2)), int(rank)


def _spread_p(test: Callable[..., Any], samples: list[list[float]]) -> float | None:
    if len(samples) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a group without any spread: refused below
        p = float(test(*samples).pvalue)
    return p if math.isfinite(p) else 0.0
