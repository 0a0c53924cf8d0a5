"""Means with their spread, differences of means, and verdicts on claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy  # scipy.stats takes 1 s, and is loaded at its first use

from efficientconv.results.premises import Groups, Premises, premises_of
from efficientconv.results.table_config import Relation
from efficientconv.text import interval

CONFIDENCE = 0.95
MARGIN_POINTS = 0.5  # percentage points of top-1 that still count as "no worse" and "not better"; this project's choice
BOUNDS: dict[Relation, float] = {"better": 0.0, "worse": 0.0, "no_worse": -MARGIN_POINTS, "not_better": MARGIN_POINTS}
RESAMPLES = 9999


@dataclass(frozen=True)
class Spread:
    """The mean of n values, their standard deviation, and an interval of the mean; None if there is only one value."""

    mean: float
    std: float | None
    n: int
    low: float | None
    high: float | None

    def __float__(self) -> float:
        return float(self.mean)

    def __format__(self, form: str) -> str:
        """82.32 ± 0.38 (5): mean, standard deviation, n."""
        std = "" if self.std is None else f" ± {self.std:{form}}"
        return f"{self.mean:{form}}{std} ({self.n})"


class Interval(NamedTuple):
    """A difference in points, and the ends of its interval; None if there is none."""

    mean: float
    low: float | None
    high: float | None

    def __float__(self) -> float:
        return float(self.mean)

    def __str__(self) -> str:
        """+1.20 (+0.77 to +1.63)"""
        within = interval(self.low, self.high, "+.2f")
        return f"{self.mean:+.2f}" + (f" ({within})" if within else "")


@dataclass(frozen=True)
class Difference:
    """A difference of mean accuracies, in points. `n`: the runs of each row. None: a row has only one run, so no spread.

    cost_error: the part of the standard error, in points, that comes from measured costs; more runs do not reduce it.
    """

    mean: float
    n: tuple[int, ...]
    std_error: float | None = None
    df: float | None = None
    cost_error: float = 0.0

    @property
    def low(self) -> float | None:
        return None if self.std_error is None else self.mean - self.half

    @property
    def high(self) -> float | None:
        return None if self.std_error is None else self.mean + self.half

    @property
    def half(self) -> float | None:
        """Half of the length of the interval."""
        return None if self.std_error is None or self.df is None else t_quantile(self.df) * self.std_error

    def __str__(self) -> str:
        return str(Interval(self.mean, self.low, self.high))

    def p_against(self, bound: float) -> float | None:
        """The p of Student's two-sided test that the difference is `bound`."""
        if self.std_error is None:
            return None
        if self.std_error == 0:
            return float(self.mean == bound)
        return float(2 * scipy.stats.t.sf(abs(self.mean - bound) / self.std_error, self.df))


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim. `p`: of the claim alone; `p_corrected`: by Holm, over the claims of its table."""

    verdict: str  # supported, contradicted or undecided
    why: str
    difference: Difference | None
    p: float | None = None
    p_corrected: float | None = None


class Comparison:
    """Differences between a table's rows, by the variance pooled over all rows if its premises hold, else by Welch."""

    def __init__(self, groups: Groups):
        self.groups = {row: values for row, values in groups.items() if values}

    @cached_property
    def premises(self) -> Premises:
        return premises_of(self.groups)

    @property
    def test(self) -> str:
        return "pooled variance" if self.premises.hold else "Welch's test"

    def difference(self, row: str, than: str) -> Difference | None:
        return self.contrast({row: 1.0, than: -1.0})

    def contrast(self, weights: Mapping[str, float]) -> Difference | None:
        """The sum of the rows' means, each times its weight; None if a row has no run."""
        if not weights.keys() <= self.groups.keys():
            return None
        samples = {row: np.array(list(self.groups[row].values())) for row in weights}
        mean = float(sum(weight * samples[row].mean() for row, weight in weights.items()))
        n = tuple(map(len, samples.values()))
        if min(n) < 2:
            return Difference(mean, n)
        variances = {row: values.var(ddof=1) for row, values in samples.items()}
        if self.premises.hold:
            variances = dict.fromkeys(samples, self.premises.pooled_std**2)
        parts = [weight**2 * variances[row] / len(samples[row]) for row, weight in weights.items()]
        df = self.premises.df if self.premises.hold else _satterthwaite(parts, n)
        return Difference(mean, n, math.sqrt(sum(parts)), df)


def spread(values: Sequence[float]) -> Spread:
    """The spread of `values`, with the percentile bootstrap's interval of the mean. It is the same on every call."""
    sample, n = np.asarray(values, float), len(values)
    if n < 2:
        return Spread(float(sample.mean()), None, n, None, None)
    means = np.random.default_rng(0).choice(sample, (RESAMPLES, n)).mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Spread(float(sample.mean()), float(sample.std(ddof=1)), n, float(low), float(high))


def judge(claims: Sequence[tuple[Relation, Difference | None]]) -> list[Verdict]:
    """The verdicts on all claims of a table: each is tested against its bound, and all p are corrected by Holm."""
    p = [None if difference is None else difference.p_against(BOUNDS[relation]) for relation, difference in claims]
    return [
        _untested(difference)
        if difference is None or value is None or corrected is None
        else _verdict(relation, difference, value, corrected)
        for (relation, difference), value, corrected in zip(claims, p, holm(p))
    ]


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction: the smallest of m times m, the next times m - 1, and none below one before it. None stays
    None, and is not one of m."""
    corrected, highest = list(p), 0.0
    known = {place: value for place, value in enumerate(p) if value is not None}
    for done, place in enumerate(sorted(known, key=known.__getitem__)):
        corrected[place] = highest = min(max(highest, known[place] * (len(known) - done)), 1.0)
    return corrected


def seeds_needed(difference: Difference, bound: float) -> int | None:
    """The runs of each row that would exclude `bound` with the same mean and spread; None if 1,000 are not enough."""
    runs_now = len(difference.n) / sum(1 / n for n in difference.n)
    variance = difference.std_error**2 - difference.cost_error**2
    for n in range(max(difference.n) + 1, 1001):
        std_error = math.sqrt(variance * runs_now / n + difference.cost_error**2)
        half = t_quantile(len(difference.n) * (n - 1)) * std_error
        if half < abs(difference.mean - bound):
            return n
    return None


def t_quantile(df: float) -> float:
    return float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, df))


def _untested(difference: Difference | None) -> Verdict:
    if difference is None:
        return Verdict("undecided", "not run for both", None)
    return Verdict("undecided", f"one seed ({difference.mean:+.2f} points) shows no spread", difference)


def _verdict(relation: Relation, difference: Difference, p: float, corrected: float) -> Verdict:
    bound, claims_more = BOUNDS[relation], relation in ("better", "no_worse")
    on_its_side = (difference.mean > bound) == claims_more
    verdict = "undecided" if corrected >= 1 - CONFIDENCE else "supported" if on_its_side else "contradicted"
    return Verdict(verdict, _why(difference, bound, verdict, p, corrected), difference, p, corrected)


def _why(difference: Difference, bound: float, verdict: str, p: float, corrected: float) -> str:
    text = (
        f"{difference.mean:+.2f} points, {CONFIDENCE:.0%} between {difference.low:+.2f} and {difference.high:+.2f} "
        f"(n={', '.join(map(str, difference.n))}); threshold: {bound:g} points; p = {_p(p)}, by Holm {_p(corrected)}"
    )
    if verdict != "undecided":
        return text
    if p < 1 - CONFIDENCE:
        return f"{text}; alone it would be decided"
    needed = seeds_needed(difference, bound)
    more = f"about {needed} seeds each would tell, if it stays so" if needed else "more seeds would hardly tell"
    return f"{text}; {more}"


def _p(value: float) -> str:
    return f"{value:.1e}" if value < 0.001 else f"{value:.3f}"


def _satterthwaite(parts: Sequence[float], n: Sequence[int]) -> float:
    """Welch's degrees of freedom for a sum of estimated variances."""
    total = sum(parts)
    if total == 0:
        return float(min(n) - 1)
    return total**2 / sum(part**2 / (count - 1) for part, count in zip(parts, n))
