"""The findings of a tier, for the front page: models compared with model A (standard layers), at equal cost and width."""

from __future__ import annotations

from pathlib import Path

from efficientconv.models import model_config
from efficientconv.results.claims import EQUAL_COST, ClaimResult, counts, tested_claims
from efficientconv.results.table import Column, Table
from efficientconv.results.tables import budget_of, model_of

OUTCOMES = {"supported": "more accurate", "contradicted": "less accurate", "undecided": "undecided"}  # than A
MODEL = Column("model", lambda claim: model_of(claim.row).upper())
DIFFERENCE = Column("accuracy against A's, points (95 %)", lambda claim: claim.shown)


def findings(folder: Path) -> str:
    """Two tables, each with its plot. If the first has no runs yet, the command that trains them stands in its place."""
    claims = tested_claims(folder)
    at_equal_cost = [claim for claim in claims if claim.at_equal]  # each says "better than A": contradicted, it is worse
    at_equal_width = [claim for claim in claims if not claim.at_equal and claim.than == "a"]
    parts = [
        "**At equal cost.** A is made narrower or wider until it costs what the model costs. Verdicts are corrected for the "
        "number of claims, intervals are not."
    ]
    if at_equal_cost:
        told = ", ".join(f"{count} {OUTCOMES[verdict]}" for verdict, count in counts(at_equal_cost).items())
        parts += [_equal_cost_table(at_equal_cost), f"{len(at_equal_cost)} comparisons: {told}."]
        parts += _plot(folder, "equal_cost_macs")
    else:
        command = f"python scripts/reproduce.py table=equal_cost tier={folder.name} seeds=0,1,2 data.root=<folder>"
        parts[0] += f" This table is being trained: `{command}`."
    return "\n\n".join([
        *parts, "**At equal width.** Every model has the same channels as A, and A costs more than every model below.",
        _equal_width_table(at_equal_width), *_plot(folder, "accuracy_macs"),
    ])  # fmt: skip


def _equal_cost_table(claims: list[ClaimResult]) -> str:
    return Table(claims, [
        MODEL,
        Column("layers", lambda claim: model_config(model_of(claim.row)).description),
        Column("at equal", _at_equal),
        DIFFERENCE,
        Column("verdict: than A", lambda claim: f"**{OUTCOMES[claim.verdict]}**"),
    ]).markdown()  # fmt: skip


def _equal_width_table(claims: list[ClaimResult]) -> str:
    return Table(claims, [
        MODEL,
        Column("the paper's claim", lambda claim: claim.sentence),
        DIFFERENCE,
        Column("verdict", lambda claim: f"**{claim.verdict}**"),
    ]).markdown()  # fmt: skip


def _at_equal(claim: ClaimResult) -> str:
    budget = budget_of(claim.row) if claim.at_equal == "macs" else None
    return EQUAL_COST[claim.at_equal] if budget is None else f"{budget / 1e6:.2f} M MACs"


def _plot(folder: Path, name: str) -> list[str]:
    path = folder / f"{name}.png"
    return [f"![tier {folder.name}: {name.replace('_', ' ')}](results/{folder.name}/{path.name})"] if path.exists() else []
