"""What the paper claims, and what a tier's runs say of it: results/<tier>/claims*.csv, read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientconv.results.csv_files import csv_rows, number

VERDICTS = ("supported", "contradicted", "undecided")


@dataclass(frozen=True)
class ClaimResult:
    """Differences are of mean accuracies, in points: `row` minus `than`; None where the runs do not tell."""

    tier: str
    table: str
    row: str
    than: str
    at_equal: str
    sentence: str
    source: str
    verdict: str
    why: str
    difference: float | None
    low: float | None
    high: float | None

    @property
    def interval(self) -> str:
        return "" if self.low is None else f"{self.low:+.2f} to {self.high:+.2f}"

    @property
    def shown(self) -> str:
        """+1.20 (+0.77 to +1.63)"""
        return f"{self.difference:+.2f}" + (f" ({self.interval})" if self.interval else "")


def tier_claims(folder: Path) -> list[ClaimResult]:
    """By the order of the tables."""
    paths = sorted(folder.glob("claims*.csv"))
    return [_claim(row, folder.name, path.stem.removeprefix("claims")) for path in paths for row in csv_rows(path)]


def tested_claims(folder: Path) -> list[ClaimResult]:
    return [claim for claim in tier_claims(folder) if claim.difference is not None]


def counts(claims: Sequence[ClaimResult]) -> dict[str, int]:
    """By verdict, those of this project first."""
    verdicts = dict.fromkeys([*VERDICTS, *(claim.verdict for claim in claims)])
    return {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in verdicts}


def _claim(row: dict[str, str], tier: str, table: str) -> ClaimResult:
    texts = {key: row.get(key, "") for key in ("row", "than", "at_equal", "sentence", "source", "verdict", "why")}
    difference, low, high = (number(row.get(key)) for key in ("difference_points", "low", "high"))
    return ClaimResult(tier, table, **texts, difference=difference, low=low, high=high)
