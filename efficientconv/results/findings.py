"""What a tier found, for the front page: models against model A, of standard layers, at equal cost and at equal width."""

from __future__ import annotations

from pathlib import Path

from efficientconv.models import model_config
from efficientconv.results.csv_files import csv_rows
from efficientconv.results.table import Column, Table
from efficientconv.results.tables import budget_of, model_of

Claim = dict[str, str]  # a row of claims*.csv

OUTCOMES = {"supported": "more accurate", "contradicted": "less accurate", "undecided": "undecided"}  # than A
COSTS = {"macs": "MACs", "inference": "time of inference", "training": "time of training"}


def findings(folder: Path) -> str:
    """Two tables, each with its plot. While nothing is trained for the first: the command that trains it."""
    return "\n\n".join([*_equal_cost(folder), *_equal_width(folder)])


def _equal_cost(folder: Path) -> list[str]:
    """Every claim of that table says that a model is better than A: contradicted, it is worse."""
    title = "**At equal cost.** A is made narrower or wider until it costs what the model costs."
    claims = _tested(folder / "claims_equal_cost.csv")
    if not claims:
        command = f"python scripts/reproduce.py table=equal_cost tier={folder.name} seeds=0,1,2 data.root=<folder>"
        return [f"{title} This table is being trained: `{command}`."]
    columns = [
        Column("model", lambda claim: model_of(claim["row"]).upper()),
        Column("layers", lambda claim: model_config(model_of(claim["row"])).description),
        Column("at equal", _at_equal),
        Column("accuracy against A's, points (95 %)", _difference),
        Column("verdict: than A", lambda claim: f"**{OUTCOMES[claim['verdict']]}**"),
    ]
    counts = [f"{sum(claim['verdict'] == verdict for claim in claims)} {said}" for verdict, said in OUTCOMES.items()]
    table = Table(claims, columns).markdown()
    return [title, table, f"{len(claims)} comparisons: {', '.join(counts)}.", *_plot(folder, "equal_cost_macs")]


def _equal_width(folder: Path) -> list[str]:
    """What the other tables claim of models against A."""
    pages = [path for path in sorted(folder.glob("claims*.csv")) if path.stem != "claims_equal_cost"]
    claims = [claim for page in pages for claim in _tested(page) if claim["than"] == "a"]
    columns = [
        Column("model", lambda claim: claim["row"].upper()),
        Column("the paper's claim", lambda claim: claim["sentence"]),
        Column("accuracy against A's, points (95 %)", _difference),
        Column("verdict", lambda claim: f"**{claim['verdict']}**"),
    ]
    title = "**At equal width.** Every model has the same channels as A, and A costs more than every model below."
    return [title, Table(claims, columns).markdown(), *_plot(folder, "accuracy_macs")]


def _tested(path: Path) -> list[Claim]:
    return [claim for claim in csv_rows(path) if claim["difference_points"]] if path.exists() else []


def _at_equal(claim: Claim) -> str:
    budget = budget_of(claim["row"]) if claim["at_equal"] == "macs" else None
    return COSTS[claim["at_equal"]] if budget is None else f"{budget / 1e6:.2f} M MACs"


def _difference(claim: Claim) -> str:
    interval = f" ({float(claim['low']):+.2f} to {float(claim['high']):+.2f})" if claim["low"] else ""
    return f"{float(claim['difference_points']):+.2f}{interval}"


def _plot(folder: Path, name: str) -> list[str]:
    path = folder / f"{name}.png"
    return [f"![tier {folder.name}: {name.replace('_', ' ')}](results/{folder.name}/{path.name})"] if path.exists() else []
