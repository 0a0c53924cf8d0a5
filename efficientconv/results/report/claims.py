"""What the paper claims, and what our runs say of it: the card on top of the page, from results/<tier>/claims*.csv."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from efficientconv.results.csv_files import csv_rows, number

VERDICTS = ("supported", "contradicted", "undecided")


@dataclass(frozen=True)
class Claim:
    """Differences are of mean accuracies, in points: `row` minus `than`; None where the runs do not tell."""

    tier: str
    sentence: str
    row: str
    than: str
    verdict: str
    why: str
    difference: float | None
    low: float | None
    high: float | None

    @property
    def shown(self) -> str:
        return "" if self.difference is None else f"{self.difference:+.2f}"

    @property
    def interval(self) -> str:
        return "" if self.low is None else f"{self.low:+.2f} to {self.high:+.2f}"


def tier_claims(folder: Path) -> list[Claim]:
    """By the order of the tables."""
    return [_claim(row, folder.name) for path in sorted(folder.glob("claims*.csv")) for row in csv_rows(path)]


def counts(claims: list[Claim]) -> dict[str, int]:
    """By verdict, those of this project first."""
    verdicts = dict.fromkeys([*VERDICTS, *(claim.verdict for claim in claims)])
    return {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in verdicts}


def scale(claims: list[Claim]) -> tuple[float, float]:
    """The least and the greatest difference in any of the intervals, and 0."""
    ends = [end for claim in claims for end in (claim.low, claim.high, claim.difference) if end is not None]
    return min([0.0, *ends]), max([0.0, *ends])


def _claim(row: dict[str, str], tier: str) -> Claim:
    texts = {key: row.get(key, "") for key in ("sentence", "row", "than", "verdict", "why")}
    difference, low, high = (number(row.get(key)) for key in ("difference_points", "low", "high"))
    return Claim(tier=tier, **texts, difference=difference, low=low, high=high)
