"""The columns of a table of the paper beside ours: as text for people, as figures for csv files."""

from __future__ import annotations

from efficientconv.results.markdown import Row
from efficientconv.results.statistics import Spread
from efficientconv.results.table_rows import JudgedClaim, TableRow


def row_command(row: TableRow, tier: str) -> str:
    """That trains the row's runs."""
    return f"python train.py -m tier={tier} model={row.model} seed={','.join(map(str, row.seeds))}" if row.seeds else ""


def row_cells(row: TableRow, baseline: str, tier: str) -> Row:
    return {
        "model": row.model,
        "stages": row.description,
        f"paper: top-1 % ({row.paper_source or 'M'}, unchecked)": _number(row.paper_top1_percent),
        "paper: M MACs": "" if row.paper_macs is None else f"{row.paper_macs / 1e6:g}",
        "ours: top-1 %": _plus_minus(row.top1),
        "of the mean": _interval(row.top1),
        f"against {baseline}, points": _difference(row.difference),
        "top-5 %": _plus_minus(row.top5),
        "M MACs": f"{row.macs / 1e6:.2f}",
        f"MACs of {baseline}'s": f"{row.macs_vs_baseline:.3f}",
        "M parameters": f"{row.params / 1e6:.3f}",
        "ms per image": "" if row.latency is None else f"{row.latency.ms_per_image:.3g}",
        "command": f"`{row_command(row, tier)}`" if row.seeds else "",
        "commit": ", ".join(row.commits),
    }


def row_figures(row: TableRow, tier: str) -> Row:
    return {
        "row": row.model,
        "paper_top1_percent": _number(row.paper_top1_percent),
        "paper_source": row.paper_source,
        **_spread_figures("top1", row.top1),
        "top5_mean_percent": "" if row.top5 is None else f"{row.top5.mean:.4f}",
        "difference_points": "" if row.difference is None else f"{row.difference.mean:.4f}",
        "difference_low": "" if row.difference is None else _number(row.difference.low, 4),
        "difference_high": "" if row.difference is None else _number(row.difference.high, 4),
        "macs": row.macs,
        "macs_vs_baseline": f"{row.macs_vs_baseline:.4f}",
        "params": row.params,
        "ms_per_image": "" if row.latency is None else f"{row.latency.ms_per_image:.4g}",
        "seeds": " ".join(map(str, row.seeds)),
        "command": row_command(row, tier),
        "commit": " ".join(row.commits),
    }


def _spread_figures(name: str, spread: Spread | None) -> Row:
    values = (None, None, None, None) if spread is None else (spread.mean, spread.std, spread.low, spread.high)
    names = (f"{name}_mean_percent", f"{name}_std", f"{name}_low", f"{name}_high")
    return {key: _number(value, 4) for key, value in zip(names, values)} | {"n": 0 if spread is None else spread.n}


def claim_cells(judged: JudgedClaim) -> Row:
    claim = judged.claim
    relation = claim.relation.replace("_", " ")
    return {
        "claim": claim.sentence,
        "mark": claim.source,
        "tested as": f"{claim.row} {relation} than {claim.than}",
        "verdict": f"**{judged.verdict.verdict}**",
        "why": judged.verdict.why,
    }


def claim_figures(judged: JudgedClaim) -> Row:
    claim, difference = judged.claim, judged.verdict.difference
    return {
        "row": claim.row, "relation": claim.relation, "than": claim.than, "sentence": claim.sentence,
        "source": claim.source, "verdict": judged.verdict.verdict,
        "difference_points": "" if difference is None else f"{difference.mean:.4f}",
        "low": "" if difference is None else _number(difference.low, 4),
        "high": "" if difference is None else _number(difference.high, 4),
        "n": 0 if difference is None else difference.n, "why": judged.verdict.why,
    }  # fmt: skip


def _number(value: float | None, decimals: int = 2) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _plus_minus(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{spread.mean:.2f}" + (f" ± {spread.std:.2f}" if spread.std is not None else "") + f" ({spread.n})"


def _interval(spread: Spread | None) -> str:
    return "" if spread is None or spread.low is None else f"{spread.low:.2f} to {spread.high:.2f}"


def _difference(difference: Spread | None) -> str:
    if difference is None:
        return ""
    interval = "" if difference.low is None else f" ({difference.low:+.2f} to {difference.high:+.2f})"
    return f"{difference.mean:+.2f}{interval}"
