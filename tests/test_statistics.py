"""Spread, differences and verdicts against scipy's own tests, sums written out, and figures worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from efficientconv.results.premises import premises_of, seed_effect_p
from efficientconv.results.statistics import Comparison, Difference, holm, judge, seeds_needed, spread

SMALL_SPREAD = [0.0, 0.3, 0.5]
RNG = np.random.default_rng(18)


def by_seed(values: list[float], first: int = 0) -> dict[int, float]:
    return dict(enumerate(values, first))


def groups_of(spreads: dict[str, float], sizes: dict[str, int], seed: int = 1) -> dict[str, dict[int, float]]:
    rng = np.random.default_rng(seed)
    return {row: by_seed(list(rng.normal(80, spreads[row], sizes[row]))) for row in spreads}


EQUAL = groups_of({"a": 0.3, "b": 0.3, "c": 0.3, "d": 0.3}, {"a": 5, "b": 3, "c": 6, "d": 4})
UNEQUAL = groups_of({"a": 0.05, "b": 3.0, "c": 0.1}, {"a": 6, "b": 8, "c": 5})


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


# ---------------------------------------------------------------- differences


def test_two_rows_with_equal_spreads_are_students_test() -> None:
    groups = {row: EQUAL[row] for row in "ab"}
    comparison, (a, b) = Comparison(groups), (list(values.values()) for values in groups.values())
    assert comparison.test == "pooled variance"
    found, expected = comparison.difference("a", "b"), stats.ttest_ind(a, b, equal_var=True)
    assert found.p_against(0) == pytest.approx(expected.pvalue) and found.df == expected.df
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.n == (5, 3)


def test_the_variance_is_pooled_over_all_rows() -> None:
    """Against least squares with a column a row: the same estimate, its error and its degrees of freedom."""
    comparison = Comparison(EQUAL)
    values = [(row, value) for row, sample in EQUAL.items() for value in sample.values()]
    design = np.array([[row == other for other in EQUAL] for row, _ in values], float)
    accuracy = np.array([value for _, value in values])
    effects, squares, _, _ = np.linalg.lstsq(design, accuracy, rcond=None)
    df = len(values) - len(EQUAL)
    contrast = np.array([0.0, 1.0, -0.25, -0.75])
    error = math.sqrt(squares[0] / df * contrast @ np.linalg.inv(design.T @ design) @ contrast)
    found = comparison.contrast({"b": 1.0, "c": -0.25, "d": -0.75})
    assert comparison.test == "pooled variance"
    assert (found.mean, found.std_error, found.df) == (pytest.approx(contrast @ effects), pytest.approx(error), df)


def test_unequal_spreads_are_welchs_test() -> None:
    comparison = Comparison(UNEQUAL)
    assert comparison.test == "Welch's test"
    found = comparison.difference("a", "b")
    expected = stats.ttest_ind(list(UNEQUAL["a"].values()), list(UNEQUAL["b"].values()), equal_var=False)
    assert found.p_against(0) == pytest.approx(expected.pvalue) and found.df == pytest.approx(expected.df)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_seeds_that_move_all_rows_alike_are_welchs_test() -> None:
    shifts = [0.0, 1.0, 2.0, 3.0]
    moved = {row: by_seed([80 + shift + noise for shift, noise in zip(shifts, RNG.normal(0, 0.05, 4))]) for row in "abc"}
    comparison = Comparison(moved)
    assert comparison.premises.bartlett_p > 0.05 and comparison.premises.seeds_p < 0.001
    assert comparison.test == "Welch's test"


def test_premises_are_scipys() -> None:
    found, samples = premises_of(EQUAL), [list(values.values()) for values in EQUAL.values()]
    assert found.bartlett_p == pytest.approx(stats.bartlett(*samples).pvalue)
    assert found.levene_p == pytest.approx(stats.levene(*samples).pvalue)
    assert found.df == sum(map(len, samples)) - len(samples)
    assert found.pooled_std**2 * found.df == pytest.approx(sum(np.var(s) * len(s) for s in samples))


def test_effect_of_the_seed_is_the_textbooks_analysis_of_variance() -> None:
    """Balanced, where the sums of squares can be written out; and with a value missing it is still found."""
    table = RNG.normal(80, 0.3, (4, 5))
    rows, seeds = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    between = 4 * np.sum((seeds - table.mean()) ** 2) / 4
    within = np.sum((table - rows - seeds + table.mean()) ** 2) / 12
    groups = {f"row{i}": by_seed(list(values)) for i, values in enumerate(table)}
    assert seed_effect_p(groups) == pytest.approx(stats.f.sf(between / within, 4, 12))
    groups["row0"].pop(2)
    assert 0 < seed_effect_p(groups) < 1


def test_a_table_without_any_run_has_premises_that_nobody_tested() -> None:
    """A tier whose first runs all failed: its table is written, and shows the costs."""
    premises = premises_of({})
    assert premises.seeds_p is None and not premises.hold and str(premises).count("untested") == 3


def test_too_few_runs_for_premises_or_differences() -> None:
    once = Comparison({"a": {0: 80.0}, "b": {1: 81.0}})
    assert once.premises.bartlett_p is None and once.premises.seeds_p is None and not once.premises.hold
    found = once.difference("a", "b")
    assert (found.mean, found.std_error, found.low, found.p_against(0)) == (-1.0, None, None, None)
    assert once.difference("a", "c") is None
    same = Comparison({"a": {0: 80.0, 1: 80.0}, "b": {0: 81.0, 1: 81.0}}).difference("a", "b")
    assert (same.low, same.high, same.p_against(0), same.p_against(-1.0)) == (-1.0, -1.0, 0.0, 1.0)


# ---------------------------------------------------------------- claims


def test_holms_correction() -> None:
    """By hand: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 not below the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []


def difference(low: float, high: float) -> Difference:
    """Whose interval of 95 % has these ends, with 4 degrees of freedom; 2.7764 is from a printed table."""
    return Difference((low + high) / 2, (3, 3), (high - low) / 2 / 2.7764, 4)


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
def test_the_verdict_of_a_claim_alone_follows_from_the_interval(relation: str, interval: tuple, verdict: str) -> None:
    (found,) = judge([(relation, difference(*interval))])
    assert found.verdict == verdict, found.why
    assert found.p == found.p_corrected and "n=3, 3" in found.why


def test_a_claim_among_others_needs_more() -> None:
    near, far = difference(0.1, 2.0), difference(5.0, 6.0)
    found = judge([("better", near), ("better", far), ("better", None), ("worse", near)])
    assert [verdict.verdict for verdict in found] == ["undecided", "supported", "undecided", "undecided"]
    assert found[0].p < 0.05 < found[0].p_corrected == pytest.approx(2 * found[0].p)
    assert "alone it would be decided" in found[0].why
    assert found[2].why == "not run for both" and found[2].p is None


def test_an_undecided_claim_says_how_many_seeds_would_tell() -> None:
    """Mean 1, deviation 1.2 in each row: t(2n - 2) 1.2 sqrt(2 / n) < 1 first at n = 13 (2.0639 x 0.4707 = 0.971)."""
    undecided = Difference(1.0, (3, 3), 1.2 * math.sqrt(2 / 3), 4)
    assert seeds_needed(undecided, 0.0) == 13
    assert "about 13 seeds each" in judge([("better", undecided)])[0].why


def test_seeds_do_not_reduce_the_error_of_measured_costs() -> None:
    """As above with a cost error of 0.2: t(2n - 2) sqrt(1.44 x 2 / n + 0.04) < 1 first at n = 15 (2.0484 x 0.4817 = 0.987).
    A cost error of 0.6 alone is too much: t(1998) x 0.6 = 1.18."""
    for error, seeds in ((0.2, 15), (0.6, None)):
        undecided = Difference(1.0, (3, 3), math.hypot(1.2 * math.sqrt(2 / 3), error), 4, error)
        assert seeds_needed(undecided, 0.0) == seeds


def test_one_seed_decides_nothing() -> None:
    (found,) = judge([("better", Comparison({"a": {0: 75.0}, "b": {0: 70.0, 1: 71.0}}).difference("a", "b"))])
    assert (found.verdict, found.why) == ("undecided", "one seed (+4.50 points) shows no spread")
