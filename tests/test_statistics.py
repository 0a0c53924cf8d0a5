"""Spread and verdicts against figures worked out by hand and by enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from efficientconv.results.statistics import judge, paired_difference, seeds_needed, spread

T_975 = {2: 12.7062, 3: 4.3027, 4: 3.1824, 5: 2.7764}  # Student's, by the number of values; from a printed table


def test_spread_is_the_samples_own() -> None:
    values = [70.0, 71.0, 73.0]
    found = spread(values)
    assert (found.mean, found.n) == (pytest.approx(214 / 3), 3)
    assert found.std == pytest.approx(math.sqrt(((70 - 214 / 3) ** 2 + (71 - 214 / 3) ** 2 + (73 - 214 / 3) ** 2) / 2))


@pytest.mark.parametrize("values", [[70.0, 71.0, 73.0], [1.0, 2.0, 4.0, 8.0], [5.0, 5.0, 5.0]])
def test_bootstrap_interval_is_that_of_all_resamples(values: list[float]) -> None:
    means = [sum(sample) / len(sample) for sample in itertools.product(values, repeat=len(values))]
    low, high = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    found = spread(values)
    assert found.low == pytest.approx(low, abs=0.3) and found.high == pytest.approx(high, abs=0.3)
    assert spread(values) == found  # no chance is left in a table


def test_one_value_has_no_spread() -> None:
    found = spread([70.0])
    assert (found.mean, found.std, found.low, found.n) == (70.0, None, None, 1)


@pytest.mark.parametrize("n", T_975)
def test_pairs_are_of_the_same_seed_and_the_interval_is_students(n: int) -> None:
    ours = {seed: 70.0 + seed**2 for seed in range(n)} | {99: 0.0}  # one without a partner
    others = {seed: 69.0 - seed for seed in reversed(range(n))}
    differences = [1.0 + seed + seed**2 for seed in range(n)]
    mean = sum(differences) / n
    std = math.sqrt(sum((value - mean) ** 2 for value in differences) / (n - 1))
    found = paired_difference(ours, others)
    assert (found.mean, found.std, found.n) == (pytest.approx(mean), pytest.approx(std), n)
    assert found.high - found.mean == pytest.approx(T_975[n] * std / math.sqrt(n), rel=1e-4)


def test_no_seed_in_common() -> None:
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    assert judge("better", None).verdict == "undecided"


def differences(low: float, high: float) -> dict[int, float]:
    """Three, whose interval of 95 % has these ends."""
    mean, step = (low + high) / 2, (high - low) / 2 / T_975[3] * math.sqrt(3)
    return {0: mean - step, 1: mean, 2: mean + step}


VERDICTS = [  # relation, interval of the difference in points, verdict; 0.5 points count as equal
    ("better", (0.1, 2.0), "supported"),
    ("better", (-0.1, 2.0), "undecided"),
    ("better", (-2.0, -0.1), "contradicted"),
    ("worse", (-2.0, -0.1), "supported"),
    ("worse", (-2.0, 0.1), "undecided"),
    ("worse", (0.1, 2.0), "contradicted"),
    ("no_worse", (-0.4, 0.3), "supported"),
    ("no_worse", (-0.6, 0.3), "undecided"),
    ("no_worse", (-2.0, -0.6), "contradicted"),
    ("not_better", (-2.0, 0.4), "supported"),
    ("not_better", (-2.0, 0.6), "undecided"),
    ("not_better", (0.6, 1.0), "contradicted"),
]


@pytest.mark.parametrize("relation, interval, verdict", VERDICTS)
def test_verdict_follows_from_the_interval(relation: str, interval: tuple[float, float], verdict: str) -> None:
    found = judge(relation, paired_difference(differences(*interval), dict.fromkeys(range(3), 0.0)))
    assert found.verdict == verdict, found.why
    assert "n=3" in found.why


def test_an_undecided_claim_says_how_many_seeds_would_tell() -> None:
    """Differences of mean 1 and deviation 1: t(n) / sqrt(n) < 1 first at n = 7 (2.4469 / 2.6458)."""
    difference = paired_difference({0: 0.0, 1: 1.0, 2: 2.0}, dict.fromkeys(range(3), 0.0))
    assert seeds_needed(difference, 0.0) == 7
    assert "about 7 seeds" in judge("better", difference).why


def test_one_seed_decides_nothing() -> None:
    verdict = judge("better", paired_difference({0: 75.0}, {0: 70.0}))
    assert (verdict.verdict, verdict.why) == ("undecided", "one seed (+5.00 points) shows no spread")
