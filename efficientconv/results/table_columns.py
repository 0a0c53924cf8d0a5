"""The columns of a table of the paper beside ours: as text for people, as figures for csv files."""

from __future__ import annotations

import math
from collections.abc import Mapping

from efficientconv.results.equal_cost import Needed
from efficientconv.results.markdown import Row
from efficientconv.results.statistics import Difference, Spread
from efficientconv.results.table_rows import JudgedClaim, TableRow
from efficientconv.results.tables import Cost, budget_of, model_of

EQUAL_COST = {"macs": "MACs", "inference": "time of inference", "training": "time of a training step"}
UNITS: dict[Cost, tuple[str, float]] = {
    "macs": ("M MACs", 1e6), "inference": ("ms per image, inference", 1.0), "training": ("ms per image, training", 1.0),
}  # fmt: skip


def row_command(row: TableRow, tier: str) -> str:
    """That trains the row's runs."""
    budget = budget_of(row.name)
    width = "" if budget is None else f" model.macs={budget:g}"
    seeds = ",".join(map(str, row.seeds))
    return f"python train.py -m tier={tier} model={model_of(row.name)}{width} seed={seeds}" if row.seeds else ""


def row_cells(row: TableRow, baseline: str, tier: str) -> Row:
    return {
        "model": row.name,
        "stages": row.description,
        "width": "" if budget_of(row.name) is None else f"{row.width:.4g}",
        f"paper: top-1 % ({row.paper_source or 'M'}, unchecked)": _number(row.paper_top1_percent),
        "paper: M MACs": "" if row.paper_macs is None else f"{row.paper_macs / 1e6:g}",
        "ours: top-1 %": plus_minus(row.top1),
        "of the mean": _interval(row.top1),
        f"against {baseline}, points": difference_text(row.difference),
        "top-5 %": plus_minus(row.top5),
        "M MACs": f"{row.macs / 1e6:.2f}",
        f"MACs of {baseline}'s": f"{row.macs_vs_baseline:.3f}",
        "M parameters": f"{row.params / 1e6:.3f}",
        "ms per image": _ms(row, "inference", 3),
        "ms per image, training": _ms(row, "training", 3),
        "command": f"`{row_command(row, tier)}`" if row.seeds else "",
        "commit": ", ".join(row.commits),
    }


def row_figures(row: TableRow, tier: str) -> Row:
    return {
        "row": row.name,
        "width": row.width,
        "paper_top1_percent": _number(row.paper_top1_percent),
        "paper_source": row.paper_source,
        **_spread_figures("top1", row.top1),
        "top5_mean_percent": "" if row.top5 is None else f"{row.top5.mean:.4f}",
        **_difference_figures(row.difference, "difference_"),
        "macs": row.macs,
        "macs_vs_baseline": f"{row.macs_vs_baseline:.4f}",
        "params": row.params,
        "ms_per_image": _ms(row, "inference", 4),
        "training_ms_per_image": _ms(row, "training", 4),
        "seeds": " ".join(map(str, row.seeds)),
        "command": row_command(row, tier),
        "commit": " ".join(row.commits),
    }


def claim_cells(judged: JudgedClaim) -> Row:
    claim = judged.claim
    relation = claim.relation.replace("_", " ")
    where = "" if claim.at_equal is None else f" at equal {EQUAL_COST[claim.at_equal]}"
    return {
        "claim": claim.sentence,
        "mark": claim.source,
        "tested as": f"{claim.row} {relation} than {claim.than}{where}",
        "verdict": f"**{judged.verdict.verdict}**",
        "why": judged.verdict.why,
    }


def claim_figures(judged: JudgedClaim, test: str) -> Row:
    claim, verdict = judged.claim, judged.verdict
    return {
        "row": claim.row, "relation": claim.relation, "than": claim.than, "at_equal": claim.at_equal or "",
        "sentence": claim.sentence, "source": claim.source, "verdict": verdict.verdict,
        **_difference_figures(verdict.difference, ""),
        "n": " ".join(map(str, verdict.difference.n)) if verdict.difference else "",
        "test": test, "p": _p(verdict.p), "p_holm": _p(verdict.p_corrected), "why": verdict.why,
    }  # fmt: skip


def needed_cells(row: TableRow, needed: Mapping[Cost, Needed], curve: str) -> Row:
    """What the table's curve needs for the row's accuracy, cost by cost, beside what the row itself needs."""
    cells = {"model": row.name, "top-1 %": plus_minus(row.top1)}
    for kind, (unit, scale) in UNITS.items():
        if kind in needed:
            found, own = needed[kind], row.cost(kind)
            cells |= {unit: f"{own / scale:.3g}", f"{unit}: {curve} needs": _needed(found, scale),
                      f"{unit}: times its own": _needed(found, own)}  # fmt: skip
    return cells


def needed_figures(row: TableRow, needed: Mapping[Cost, Needed]) -> Row:
    figures = {"row": row.name, **_spread_figures("top1", row.top1)}
    for kind in UNITS:
        found, own = needed.get(kind), row.cost(kind)
        names = (kind, f"{kind}_needed", f"{kind}_needed_low", f"{kind}_needed_high")
        values = (own, None, None, None) if found is None else (own, found.cost, found.low, found.high)
        figures |= {name: "" if value is None else f"{value:.6g}" for name, value in zip(names, values)}
    return figures


def plus_minus(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{spread.mean:.2f}" + (f" ± {spread.std:.2f}" if spread.std is not None else "") + f" ({spread.n})"


def difference_text(difference: Difference | None) -> str:
    if difference is None:
        return ""
    interval = "" if difference.low is None else f" ({difference.low:+.2f} to {difference.high:+.2f})"
    return f"{difference.mean:+.2f}{interval}"


def _needed(found: Needed, scale: float) -> str:
    interval = "" if found.low is None else f" ({_bound(found.low, scale)} to {_bound(found.high, scale)})"
    return f"{_bound(found.cost, scale)}{interval}"


def _bound(cost: float, scale: float) -> str:
    """less, more: than the curve's ends."""
    return "less" if cost == 0 else "more" if math.isinf(cost) else f"{cost / scale:.3g}"


def _spread_figures(name: str, spread: Spread | None) -> Row:
    values = (None, None, None, None) if spread is None else (spread.mean, spread.std, spread.low, spread.high)
    names = (f"{name}_mean_percent", f"{name}_std", f"{name}_low", f"{name}_high")
    return {key: _number(value, 4) for key, value in zip(names, values)} | {"n": 0 if spread is None else spread.n}


def _difference_figures(difference: Difference | None, prefix: str) -> Row:
    values = (None, None, None) if difference is None else (difference.mean, difference.low, difference.high)
    names = ("difference_points", f"{prefix}low", f"{prefix}high")
    return {name: _number(value, 4) for name, value in zip(names, values)}


def _ms(row: TableRow, kind: Cost, digits: int) -> str:
    cost = row.cost(kind)
    return "" if cost is None else f"{cost:.{digits}g}"


def _p(p: float | None) -> str:
    return "" if p is None else f"{p:.3g}"


def _number(value: float | None, decimals: int = 2) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _interval(spread: Spread | None) -> str:
    return "" if spread is None or spread.low is None else f"{spread.low:.2f} to {spread.high:.2f}"
