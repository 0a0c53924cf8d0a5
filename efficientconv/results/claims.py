"""The paper's claims and their verdicts by a tier's runs: results/<tier>/claims*.csv, written and read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from efficientconv.csv_files import read_rows
from efficientconv.results.statistics import Interval
from efficientconv.results.table import Column
from efficientconv.text import interval

VERDICTS = ("supported", "contradicted", "undecided")
EQUAL_COST = {"macs": "MACs", "inference": "time of inference", "training": "time of a training step"}


@dataclass(frozen=True)
class ClaimResult:
    """A line of a file. Differences are `row` minus `than`, of mean accuracies, in points; None if the runs are too few."""

    sentence: str
    source: str  # the mark of how sure it is that the paper says so
    row: str
    relation: str
    than: str
    at_equal: str | None
    verdict: str
    difference_points: float | None
    low: float | None
    high: float | None
    n: object  # runs of each row in it
    test: str
    p: float | None
    p_holm: float | None  # corrected over the claims of its table
    why: str
    tier: str = ""  # not in the file: it is the folder's name

    @property
    def equal(self) -> str | None:
        """What the comparison with standard layers (A) holds equal: cost or width. None: it is another comparison."""
        return "cost" if self.at_equal else "width" if self.than == "a" else None

    @property
    def tested_as(self) -> str:
        where = f" at equal {EQUAL_COST[self.at_equal]}" if self.at_equal else ""
        return f"{self.row} {self.relation.replace('_', ' ')} than {self.than}{where}"

    @property
    def interval(self) -> str:
        return interval(self.low, self.high, "+.2f")

    @property
    def shown(self) -> str:
        """The difference with its interval. Empty if there is none."""
        return "" if self.difference_points is None else str(Interval(self.difference_points, self.low, self.high))


FIELDS = [field.name for field in fields(ClaimResult) if field.name != "tier"]
COLUMNS = [
    Column("claim", "sentence"),
    Column("mark", "source"),
    Column("tested as", "tested_as"),
    Column("verdict", show="**{}**".format),
    Column("why"),
    *(Column(None, name=name) for name in FIELDS),
]


def tier_claims(folder: Path) -> list[ClaimResult]:
    """The claims of a tier, in the order of the tables."""
    paths = sorted(folder.glob("claims*.csv"))
    rows = [row for path in paths for row in read_rows(path)]
    lines: list[dict[str, Any]] = [{name: row.get(name) for name in FIELDS} for row in rows]
    return [ClaimResult(**line, tier=folder.name) for line in lines]


def tested_claims(folder: Path) -> list[ClaimResult]:
    return [claim for claim in tier_claims(folder) if claim.difference_points is not None]


def counts(claims: Sequence[ClaimResult]) -> dict[str, int]:
    """The number of claims by verdict, this project's verdicts first."""
    verdicts = dict.fromkeys([*VERDICTS, *(claim.verdict for claim in claims)])
    return {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in verdicts}
