"""Accuracy at equal cost: differences from a curve and what it needs, against sums written out; a table of budgets, made."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from conftest import command
from efficientconv.results.equal_cost import Curve
from efficientconv.results.statistics import Comparison
from efficientconv.results.table_config import TableConfig, table_config
from efficientconv.validation import validate

COSTS = {"a1": 2e6, "a2": 4e6, "a3": 16e6}
MEANS = {"a1": 76.0, "a2": 78.0, "a3": 82.0, "c": 79.0, "low": 70.0, "high": 90.0}
NOISE = [-0.2, 0.3, -0.1]


def comparison_of(**more: dict[int, float]) -> Comparison:
    """Every row has seeds of its own, for their noise is the same."""
    groups = {
        row: dict(enumerate([mean + noise for noise in NOISE], start=10 * first))
        for first, (row, mean) in enumerate(MEANS.items(), start=1)
    }
    return Comparison(groups | more)


def test_a_difference_from_the_curve_is_a_contrast_of_means() -> None:
    """At 8 M, half way from 4 to 16 in the logarithm: 79 - (78 + 82) / 2, variance s^2 (1 + 1/4 + 1/4) / 3."""
    comparison = comparison_of()
    found = Curve(comparison, COSTS).difference("c", 8e6)
    std = np.std(NOISE, ddof=1)
    assert comparison.test == "pooled variance" and comparison.premises.pooled_std == pytest.approx(std)
    assert (found.mean, found.df, found.n) == (pytest.approx(-1.0), 12, (3, 3, 3))
    assert found.std_error == pytest.approx(std * math.sqrt(1.5 / 3))


def test_at_a_row_of_the_curve_and_a_little_beyond_an_end_it_is_that_row_alone() -> None:
    curve = Curve(comparison_of(), COSTS)
    for cost, mean in ((4e6, 1.0), (1.95e6, 3.0), (16.4e6, -3.0)):
        assert (curve.difference("c", cost).mean, curve.difference("c", cost).n) == (pytest.approx(mean), (3, 3))
    assert curve.difference("c", 1.9e6) is None and curve.difference("c", 17e6) is None


def test_the_error_of_measured_costs_widens_the_interval() -> None:
    """At 8 M, half way from 4 to 16, the curve rises by 4 points for a factor of 4, so by 4 / ln 4 for each unit of the
    logarithm; the errors of its two rows count by half."""
    errors = {"c": 0.03, "a2": 0.04, "a3": 0.06, "a1": 9.0}
    exact, found = (Curve(comparison_of(), COSTS, given).difference("c", 8e6) for given in ({}, errors))
    assert (found.mean, found.df, found.n) == (exact.mean, exact.df, exact.n)
    assert found.std_error == pytest.approx(math.hypot(exact.std_error, 4 / math.log(4) * math.hypot(0.03, 0.02, 0.03)))


def test_what_the_curve_needs_is_where_it_is_as_accurate() -> None:
    """79 lies a quarter of the way from 78 to 82: 4 M times 4 to the quarter. The ends are Fieller's, from his quadratic:
    (79 - 78 - 4 w)^2 = t^2 s^2 / 3 (1 + (1 - w)^2 + w^2), w the way from 4 to 16 M."""
    found = Curve(comparison_of(), COSTS).needed("c")
    assert found.cost == pytest.approx(4e6 * 4**0.25, rel=1e-4)
    spread = stats.t.ppf(0.975, 12) ** 2 * np.var(NOISE, ddof=1) / 3
    low, high = sorted(np.roots([16 - 2 * spread, -8 + 2 * spread, 1 - 2 * spread]))
    assert found.low == pytest.approx(4e6 * 4**low, rel=1e-3) and found.high == pytest.approx(4e6 * 4**high, rel=1e-3)


def test_a_row_that_a_cheaper_one_beats_is_no_part_of_the_curve() -> None:
    """At 8 M, with a row of 70 there: still half way from 78 to 82."""
    costs = {**COSTS, "low": 8e6}
    assert Curve(comparison_of(), costs).difference("c", 8e6).mean == pytest.approx(-1.0)
    assert Curve(comparison_of(), costs).needed("c") == Curve(comparison_of(), COSTS).needed("c")


def test_less_and_more_than_the_curve_has() -> None:
    curve = Curve(comparison_of(), COSTS)
    low, high = curve.needed("low"), curve.needed("high")
    assert (low.cost, low.low, low.high) == (0, 0, 0)
    assert (high.cost, high.low, high.high) == (math.inf, math.inf, math.inf)
    near = Curve(comparison_of(top={0: 82.1, 1: 82.3, 2: 82.0}), COSTS).needed("top")
    assert near.cost == near.high == math.inf and 4e6 < near.low < 16e6


def test_one_run_gives_no_interval() -> None:
    found = Curve(comparison_of(once={0: 79.0}), COSTS).needed("once")
    assert found.cost == pytest.approx(4e6 * 4**0.25, rel=1e-4) and found.low is found.high is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rows": ["a@many"]}, "could not convert"),
        ({"claims": [{"row": "c@2e6", "than": "b", "at_equal": "macs"}]}, "curve_of"),
        ({"claims": [{"row": "c", "than": "a", "at_equal": "macs"}]}, "row of the table"),
        ({"claims": [{"row": "c@2e6", "than": "a", "at_equal": "parameters"}]}, "'macs', 'inference' or 'training'"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(change: dict, message: str) -> None:
    values = {"name": "t", "title": "t", "source": "D", "baseline": "a@2e6", "curve_of": "a"}
    values |= {"rows": ["a@2e6", "c@2e6"]} | change
    values["claims"] = [{"sentence": "s", "is": "better", "source": "D"} | claim for claim in values.get("claims", [])]
    with pytest.raises(ValueError, match=message):
        validate(TableConfig, values)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("equal_cost")
    done = command(
        "scripts/reproduce.py", "table=equal_cost", "tier=smoke", "seeds=0,1", f"output_root={folder / 'outputs'}",
        "--results", folder / "results", "--only", "a@2.26e6,a@4.10e6,c@2.26e6", "--jobs", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 runs: 0 done, 6 to do" in done.stdout and "warning" not in done.stderr
    return folder / "results" / "smoke"


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with open(path, newline="") as file:
        return {row["row"]: row for row in csv.DictReader(file)}


def test_a_table_of_budgets_is_trained_and_reported_like_any_other(reproduced: Path) -> None:
    rows = rows_of(reproduced / "table_equal_cost.csv")
    trained = {name: row for name, row in rows.items() if row["n"] == "2"}
    assert set(trained) == {"a@2.26e6", "a@4.10e6", "c@2.26e6"} and list(rows) == table_config("equal_cost").rows
    assert {float(row["width"]) * 512 for row in trained.values()} == {47, 65, 80}
    for row in trained.values():
        assert float(row["ms_per_image"]) < float(row["training_ms_per_image"])
        assert row["of_limit"].endswith(("arithmetic", "memory")) and float(row["training_of_limit"].split()[0]) > 0
        assert f"model.macs={float(row['row'].partition('@')[2]):g}" in row["command"]
    needed = rows_of(reproduced / "needed_equal_cost.csv")
    assert set(needed) == {"c@2.26e6"} and float(needed["c@2.26e6"]["macs"]) == float(rows["c@2.26e6"]["macs"])
    judged = rows_of(reproduced / "claims_equal_cost.csv")
    assert judged["c@2.26e6"]["p_holm"] and not judged["m"]["p"]
    for name in ("equal_cost_macs", "equal_cost_inference", "equal_cost_training", "accuracy_macs"):
        if name != "accuracy_macs":
            assert Image.open(reproduced / f"{name}.png").size[0] > 500
    assert not (reproduced / "accuracy_macs.png").exists()  # of the tier's width: none was trained


def test_its_difference_is_that_of_the_means(reproduced: Path) -> None:
    rows, judged = rows_of(reproduced / "table_equal_cost.csv"), rows_of(reproduced / "claims_equal_cost.csv")
    means = {name: float(row["top1_mean_percent"]) for name, row in rows.items() if row["n"] == "2"}
    assert int(rows["c@2.26e6"]["macs"]) < int(rows["a@2.26e6"]["macs"])  # so that it is held against that end of A's curve
    assert float(judged["c@2.26e6"]["difference_points"]) == pytest.approx(means["c@2.26e6"] - means["a@2.26e6"], abs=2e-4)


def test_its_page_shows_what_was_run_and_names_the_rest(reproduced: Path) -> None:
    page = (reproduced / "table_equal_cost.md").read_text()
    assert "\n| c@2.26e6 | " in page and "\n| m@2.26e6 | " not in page and "not run for both" not in page
    (missing,) = (line for line in page.splitlines() if line.startswith("Not run at this tier: "))
    assert "m@2.26e6, m@5.16e6, m, b," in missing and "c@2.26e6" not in missing
    tested = sum(bool(row["p"]) for row in csv.DictReader(open(reproduced / "claims_equal_cost.csv", newline="")))
    claims = len(table_config("equal_cost").claims)
    assert f"Not tested, because a row of the claim was not run: {claims - tested} more." in page
