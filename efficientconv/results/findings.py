"""The findings of a tier, for the front page: models compared with model A (standard layers), at equal cost and width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientconv.csv_files import read_rows
from efficientconv.models import model_config
from efficientconv.results.claims import EQUAL_COST, ClaimResult, counts, tested_claims
from efficientconv.results.table import Column, Table, grouped
from efficientconv.results.table_config import budget_of, model_of, tier_width
from efficientconv.text import interval

OUTCOMES = {"supported": "more accurate", "contradicted": "less accurate", "undecided": "undecided"}  # than A
DIFFERENCE = "accuracy against A's, points (95 %)"


@dataclass(frozen=True)
class Finding:
    """The comparisons of a model with A at equal costs of one kind, as far as they have one verdict, as one line."""

    model: str
    layers: str
    at_equal: str
    verdict: str
    points: str  # the difference, or the least and the greatest one
    low: float | None  # the ends of all intervals
    high: float | None
    claims: list[ClaimResult]

    @property
    def outcome(self) -> str:
        return OUTCOMES[self.verdict]

    @property
    def interval(self) -> str:
        return interval(self.low, self.high, "+.2f")

    @property
    def difference(self) -> str:
        return self.points + (f" ({self.interval})" if self.interval else "")


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
        told = ", ".join(f"{count} {OUTCOMES[verdict]}" for verdict, count in counts(at_equal_cost).items())
        rows = cost_findings(folder, at_equal_cost)
        parts += [_equal_cost_table(rows), f"The {len(rows)} rows stand for {len(at_equal_cost)} comparisons: {told}."]
        parts += _plot(folder, "equal_cost_macs")
    else:
        command = f"python scripts/reproduce.py table=equal_cost tier={folder.name} seeds=0,1,2 data.root=<folder>"
        parts[0] += f" This table is being trained: `{command}`."
    return "\n\n".join([
        *parts, "**At equal width.** Every model has the same channels as A, and A costs more than every model below.",
        _equal_width_table(kinds.get("width", [])), *_plot(folder, "accuracy_macs"),
    ])  # fmt: skip


def headline(folder: Path) -> str:
    """What was found about SIC layers, in one sentence."""
    at_equal_macs = [claim for claim in _of_c(folder)["cost"] if claim.at_equal == "macs"]
    points = _finding("c", "", at_equal_macs, {}).points
    return (
        f"**In short:** on small networks and CIFAR-10, a network of SIC layers (C) has {points} points of accuracy against "
        f"one of standard layers (A) at equal MACs, and {_points_at_equal_width(folder)} points at equal width."
    )


def elsewhere(results: Path) -> str:
    """What was found about SIC layers at equal width in a longer training and in wider networks, as a paragraph."""
    longer, wide = (results / f"cifar_small_{name}" for name in ("48epochs", "wide"))
    return (
        f"**Longer, and elsewhere.** At equal width C has {_points_at_equal_width(longer)} points of accuracy against A "
        f"after [48 epochs](results/{longer.name}/README.md), and {_points_at_equal_width(wide)} points at "
        f"[twice the width](results/{wide.name}/README.md)."
    )


def _points_at_equal_width(folder: Path) -> str:
    return f"{_of_c(folder)['width'][0].difference_points:+.2f}"


def _of_c(folder: Path) -> dict[str | None, list[ClaimResult]]:
    """The tested claims about model C, by what they hold equal."""
    return grouped([claim for claim in tested_claims(folder) if model_of(claim.row) == "c"], lambda claim: claim.equal)


def cost_findings(folder: Path, claims: Sequence[ClaimResult]) -> list[Finding]:
    """A finding for each model, kind of cost and verdict of a tier. `claims`: its tested claims at equal cost."""
    lines = grouped(claims, lambda claim: (model_of(claim.row), claim.at_equal, claim.verdict))
    table = folder / "table_equal_cost.csv"
    macs = {row["row"]: row["macs"] for row in read_rows(table)} if table.exists() else {}
    return [_finding(model, verdict, line, macs) for (model, _, verdict), line in lines.items()]


def _finding(model: str, verdict: str, line: list[ClaimResult], macs: Mapping[str, float]) -> Finding:
    means, lows, highs = zip(*((claim.difference_points, claim.low, claim.high) for claim in line))
    points = f"{means[0]:+.2f}" if len(line) == 1 else interval(min(means), max(means), "+.2f")
    low, high = (None, None) if None in lows else (min(lows), max(highs))
    return Finding(model.upper(), model_config(model).description, _costs(line, macs), verdict, points, low, high, line)


def _equal_cost_table(rows: list[Finding]) -> str:
    return Table(rows, [
        Column("model"), Column("layers"), Column("at equal", "at_equal"), Column(DIFFERENCE, "difference"),
        Column("the model is", "outcome", "**{}**".format),
    ]).markdown()  # fmt: skip


def _equal_width_table(claims: list[ClaimResult]) -> str:
    return Table(claims, [
        Column("model", lambda claim: model_of(claim.row).upper()),
        Column("the paper's claim", "sentence"),
        Column(DIFFERENCE, "shown"),
        Column("verdict", lambda claim: f"**{claim.verdict}**"),
    ]).markdown()  # fmt: skip


def _costs(line: list[ClaimResult], macs: Mapping[str, float]) -> str:
    """The costs of a line, the smallest first. A row without a budget has the tier's width. `macs`: by row, where known."""
    if line[0].at_equal != "macs":
        return EQUAL_COST[line[0].at_equal]  # type: ignore[index]  # of claims at equal cost
    costs = {claim.row: budget_of(claim.row) or macs.get(claim.row, math.inf) for claim in line}
    at_width = f"width {tier_width(line[0].tier):g}"
    told = [_cost(costs[row], "" if budget_of(row) else at_width) for row in sorted(costs, key=costs.__getitem__)]
    return f"MACs: {', '.join(told)}"


def _cost(macs: float, width: str) -> str:
    if macs == math.inf:
        return f"those at {width}"
    return f"{macs / 1e6:.2f} M" + (f" ({width})" if width else "")


def _plot(folder: Path, name: str) -> list[str]:
    path = folder / f"{name}.png"
    return [f"![tier {folder.name}: {name.replace('_', ' ')}](results/{folder.name}/{path.name})"] if path.exists() else []
