"""The paper's claims as the page shows them: lines and verdicts as in README.md, with the single comparisons behind each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from efficientconv.results.claims import ClaimResult, counts, tier_claims
from efficientconv.results.findings import OUTCOMES, Finding, cost_findings
from efficientconv.results.report.sources import Sources
from efficientconv.results.table import grouped

# titles by what is equal; the paper's abstract is about cost
TITLES = {
    "cost": "At equal cost: against A, made narrower or wider until it costs as much",
    "width": "At equal width: against A, which costs more",
    None: "Other comparisons",
}


def claim_kinds(sources: Sources) -> tuple[list[dict], int]:
    """The claims of all tiers by what is equal, and the number of claims without runs.

    Of a kind `title`, `lines` (see `_line`), and `counted`: verdict, its words and the number of comparisons with it.
    """
    of_folder = {folder: sources.attempt(tier_claims, folder) or [] for folder in sources.tier_folders}
    stated = [claim for claims in of_folder.values() for claim in claims]
    tested = [claim for claim in stated if claim.difference_points is not None]
    found: list[Finding] = []
    for folder, claims in of_folder.items():
        at_equal_cost = [claim for claim in claims if claim.equal == "cost" and claim.difference_points is not None]
        found += sources.attempt(partial(cost_findings, claims=at_equal_cost), folder) or []
    kinds = grouped(tested, lambda claim: claim.equal)
    lines = {kind: [_of_claim(claim) for claim in claims] for kind, claims in kinds.items()}
    lines["cost"] = [_of_finding(finding) for finding in found]
    shown = [_kind(title, kinds[kind], lines[kind]) for kind, title in TITLES.items() if kind in kinds]
    return shown, len(stated) - len(tested)


def _kind(title: str, claims: Sequence[ClaimResult], lines: list[dict]) -> dict:
    words = OUTCOMES if claims[0].equal == "cost" else {}
    counted = [(verdict, words.get(verdict, verdict), count) for verdict, count in counts(claims).items()]
    return {"title": title, "counted": counted, "lines": lines}


def _of_finding(found: Finding) -> dict:
    reasons = [f"{claim.sentence}: {claim.verdict}. {claim.why}; tier {claim.tier}." for claim in found.claims]
    return _line(found, found.outcome, f"{found.model}: {found.layers}", found.at_equal, found.points, reasons)


def _of_claim(claim: ClaimResult) -> dict:
    about, points = f"{_model(claim.row)} against {_model(claim.than)}", f"{claim.difference_points:+.2f}"
    return _line(claim, claim.verdict, claim.sentence, about, points, [f"{claim.why}; tier {claim.tier}."])


def _line(
    found: Finding | ClaimResult, outcome: str, title: str, about: str, points: str, reasons: list[str]
) -> dict[str, object]:
    """A finding or a claim. `outcome`: its verdict in words. `reasons`: one paragraph for each comparison."""
    return {
        "verdict": found.verdict, "outcome": outcome, "title": title, "about": about, "points": points, "low": found.low,
        "high": found.high, "interval": found.interval, "reasons": reasons,
    }  # fmt: skip


def _model(row: str) -> str:
    return row.upper() if len(row) == 1 else row
