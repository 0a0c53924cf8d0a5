"""The findings of a tier, for the front page: models compared with model A (standard layers), at equal cost and width."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from efficientconv.models import model_config
from efficientconv.results.claims import EQUAL_COST, ClaimResult, counts, tested_claims
from efficientconv.results.csv_files import read_rows
from efficientconv.results.table import Column, Table, grouped
from efficientconv.results.tables import budget_of, model_of, tier_width
from efficientconv.text import interval

OUTCOMES = {"supported": "more accurate", "contradicted": "less accurate", "undecided": "undecided"}  # than A
DIFFERENCE = "accuracy against A's, points (95 %)"


def findings(folder: Path) -> str:
    """Two tables, each with its plot. If the first has no runs yet, the command that trains them stands in its place."""
    kinds = grouped(tested_claims(folder), lambda claim: claim.equal)
    at_equal_cost = kinds.get("cost", [])  # each says "better than A": contradicted, it is worse
    parts = [
        "**At equal cost.** A is made narrower or wider until it costs what the model costs. A row with several costs shows "
        "the smallest and the largest difference. The brackets show the lowest and the highest end of the intervals. The "
        "verdicts are corrected for the number of claims. The intervals are not."
    ]
    if at_equal_cost:
        parts += [*_equal_cost_table(folder, at_equal_cost), *_plot(folder, "equal_cost_macs")]
    else:
        command = f"python scripts/reproduce.py table=equal_cost tier={folder.name} seeds=0,1,2 data.root=<folder>"
        parts[0] += f" This table is being trained: `{command}`."
    return "\n\n".join([
        *parts, "**At equal width.** Every model has the same channels as A, and A costs more than every model below.",
        _equal_width_table(kinds.get("width", [])), *_plot(folder, "accuracy_macs"),
    ])  # fmt: skip


def _equal_cost_table(folder: Path, claims: list[ClaimResult]) -> list[str]:
    """A table with a line for each model, kind of cost and verdict; the sum of its comparisons."""
    lines = grouped(claims, lambda claim: (model_of(claim.row), claim.at_equal, claim.verdict))
    told = ", ".join(f"{count} {OUTCOMES[verdict]}" for verdict, count in counts(claims).items())
    macs = {row["row"]: row["macs"] for row in read_rows(folder / "table_equal_cost.csv")}
    table = Table(list(lines.values()), [
        Column("model", lambda line: model_of(line[0].row).upper()),
        Column("layers", lambda line: model_config(model_of(line[0].row)).description),
        Column("at equal", lambda line: _costs(line, macs)),
        Column(DIFFERENCE, _differences),
        Column("the model is", lambda line: f"**{OUTCOMES[line[0].verdict]}**"),
    ])  # fmt: skip
    return [table.markdown(), f"The {len(lines)} rows stand for {len(claims)} comparisons: {told}."]


def _equal_width_table(claims: list[ClaimResult]) -> str:
    return Table(claims, [
        Column("model", lambda claim: model_of(claim.row).upper()),
        Column("the paper's claim", "sentence"),
        Column(DIFFERENCE, "shown"),
        Column("verdict", lambda claim: f"**{claim.verdict}**"),
    ]).markdown()  # fmt: skip


def _costs(line: list[ClaimResult], macs: Mapping[str, int]) -> str:
    """The costs of a line, the smallest first. A row without a budget has the tier's width. `macs` are by row."""
    if line[0].at_equal != "macs":
        return EQUAL_COST[line[0].at_equal]
    at_width = f" (width {tier_width(line[0].tier):g})"
    costs = [(budget_of(claim.row) or macs[claim.row], at_width * (budget_of(claim.row) is None)) for claim in line]
    return f"MACs: {', '.join(f'{cost / 1e6:.2f} M{where}' for cost, where in sorted(costs))}"


def _differences(line: list[ClaimResult]) -> str:
    if len(line) == 1:
        return line[0].shown
    means, lows, highs = zip(*((claim.difference_points, claim.low, claim.high) for claim in line))
    within = "" if None in lows else f" ({interval(min(lows), max(highs), '+.2f')})"
    return interval(min(means), max(means), "+.2f") + within


def _plot(folder: Path, name: str) -> list[str]:
    path = folder / f"{name}.png"
    return [f"![tier {folder.name}: {name.replace('_', ' ')}](results/{folder.name}/{path.name})"] if path.exists() else []
