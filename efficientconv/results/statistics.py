"""Means with their spread, differences paired over seeds, and what they say of a claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from efficientconv.results.tables import Relation

CONFIDENCE = 0.95
MARGIN_POINTS = 0.5  # percentage points of top-1 that still count as "no worse" and "not better"; this project's choice
RESAMPLES = 9999


@dataclass(frozen=True)
class Spread:
    """Of n values: the sample's standard deviation, and an interval of the mean; None where one value has none."""

    mean: float
    std: float | None
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Verdict:
    """`difference` is of the pairs, in points, with Student's t interval: of few pairs, the bootstrap's is too short."""

    verdict: str  # supported, contradicted or undecided
    why: str
    difference: Spread | None


def spread(values: Sequence[float]) -> Spread:
    """With the percentile bootstrap's interval of the mean, the same on every call."""
    sample, n = np.asarray(values, float), len(values)
    if n < 2:
        return Spread(float(sample.mean()), None, n, None, None)
    means = np.random.default_rng(0).choice(sample, (RESAMPLES, n)).mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Spread(float(sample.mean()), float(sample.std(ddof=1)), n, float(low), float(high))


def paired_difference(values: Mapping[int, float], others: Mapping[int, float]) -> Spread | None:
    """values - others by seed, over the seeds that both have, with Student's t interval; None without such a seed."""
    seeds = sorted(values.keys() & others.keys())
    if not seeds:
        return None
    sample, n = np.array([values[seed] - others[seed] for seed in seeds]), len(seeds)
    mean = float(sample.mean())
    if n < 2:
        return Spread(mean, None, n, None, None)
    std = float(sample.std(ddof=1))
    half = _t(n) * std / math.sqrt(n)
    return Spread(mean, std, n, mean - half, mean + half)


def judge(relation: Relation, difference: Spread | None) -> Verdict:
    """Whether an interval of the difference, row minus the other, lies on the claim's side of its bound, or on the other."""
    if difference is None:
        return Verdict("undecided", "no seed was run for both", None)
    if difference.low is None:
        return Verdict("undecided", f"one seed ({difference.mean:+.2f} points) shows no spread", difference)
    bound = {"better": 0.0, "worse": 0.0, "no_worse": -MARGIN_POINTS, "not_better": MARGIN_POINTS}[relation]
    above, below = difference.low > bound, difference.high < bound
    if relation in ("worse", "not_better"):
        above, below = below, above
    verdict = "supported" if above else "contradicted" if below else "undecided"
    return Verdict(verdict, _why(difference, bound, verdict), difference)


def seeds_needed(difference: Spread, bound: float) -> int | None:
    """Pairs whose interval would leave out `bound`, were mean and spread to stay; None when no 1,000 would do."""
    for n in range(difference.n + 1, 1001):
        if _t(n) * difference.std / math.sqrt(n) < abs(difference.mean - bound):
            return n
    return None


def _why(difference: Spread, bound: float, verdict: str) -> str:
    text = (
        f"{difference.mean:+.2f} points, {CONFIDENCE:.0%} between {difference.low:+.2f} and {difference.high:+.2f} "
        f"(n={difference.n}), to be held against {bound:g}"
    )
    if verdict != "undecided":
        return text
    needed = seeds_needed(difference, bound)
    return f"{text}; " + (f"about {needed} seeds would tell, if it stays so" if needed else "more seeds would hardly tell")


def _t(n: int) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
