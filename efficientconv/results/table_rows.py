"""A table with the paper's figures and ours: a row for each model, from the records of its runs, and the claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from efficientconv.complexity import NetworkCost
from efficientconv.config import ModelConfig
from efficientconv.results.claims import ClaimResult
from efficientconv.results.equal_cost import Curve, Needed
from efficientconv.results.record import RunRecord
from efficientconv.results.statistics import Comparison, Difference, Spread, Verdict, judge, spread
from efficientconv.results.table_config import COSTS, Claim, CostKind, TableConfig, model_of
from efficientconv.results.times import Times, network_of


@dataclass(frozen=True)
class TableRow:
    """A row. Accuracies are of the last epoch's weights on the test images, over seeds. None: not run."""

    name: str
    model: ModelConfig
    counted: NetworkCost
    macs_vs_baseline: float
    runs: Sequence[RunRecord]
    difference: Difference | None  # top-1 minus the baseline's, in points
    times: Times | None

    def accuracy(self, figure: str = "top1_percent") -> Spread | None:
        values = by_seed(self.runs, figure)
        return spread(list(values.values())) if values else None

    def cost(self, kind: CostKind) -> float | None:
        """The cost in MACs or in ms per image; None: not measured."""
        return self.counted.macs if kind == "macs" else getattr(self.times, COSTS[kind], None)


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper with one tier's runs. `comparison` is of all rows with runs, also those that are not shown."""

    config: TableConfig
    rows: Sequence[TableRow]
    comparison: Comparison

    @cached_property
    def claims(self) -> list[ClaimResult]:
        verdicts = judge([(claim.relation, self._difference(claim)) for claim in self.config.claims])
        return [_result(*judged, self.comparison.test) for judged in zip(self.config.claims, verdicts)]

    @cached_property
    def needed(self) -> dict[CostKind, dict[str, Needed]]:
        """The cost that the curve's model needs for the accuracy of each row of another model, by kind of cost and by row.

        Costs that were not measured are left out. The table must be a table of curves.
        """
        curves = {kind: self._curve(kind) for kind in get_args(CostKind)}
        others = [row for row in self.rows if model_of(row.name) != self.config.curve_of and row.runs]
        found = {
            kind: {row.name: curve.needed(row.name) for row in others if row.cost(kind)}
            for kind, curve in curves.items() if curve
        }  # fmt: skip
        return {kind: needed for kind, needed in found.items() if needed}

    def _curve(self, kind: CostKind) -> Curve | None:
        """The curve through all rows of its model that have runs; None if there is none, or if a cost was not measured."""
        costs = {row.name: row.cost(kind) for row in self.rows if model_of(row.name) == self.config.curve_of and row.runs}
        errors = {
            row.name: row.times.error(COSTS[kind]) for row in self.rows if row.times and kind != "macs" and row.cost(kind)
        }
        known = {row: cost for row, cost in costs.items() if cost is not None}
        return Curve(self.comparison, known, errors) if known and known == costs else None

    def _difference(self, claim: Claim) -> Difference | None:
        if claim.at_equal is None:
            return self.comparison.difference(claim.row, claim.than)
        curve = self._curve(claim.at_equal)
        cost = next(row.cost(claim.at_equal) for row in self.rows if row.name == claim.row)
        return None if curve is None or cost is None else curve.difference(claim.row, cost)


def _result(claim: Claim, verdict: Verdict, test: str) -> ClaimResult:
    mean, low, high, n = (getattr(verdict.difference, key, None) for key in ("mean", "low", "high", "n"))
    return ClaimResult(
        **claim.model_dump(), verdict=verdict.verdict, difference_points=mean, low=low, high=high, n=n, test=test,
        p=verdict.p, p_holm=verdict.p_corrected, why=verdict.why,
    )  # fmt: skip


def by_row(models: Mapping[str, ModelConfig], records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """The runs of each row: those of its model at its width."""
    return {row: [record for record in records if network_of(record.run_config.model) == network_of(model)]
            for row, model in models.items()}  # fmt: skip


def by_seed(records: Sequence[RunRecord], figure: str = "top1_percent") -> dict[int, float]:
    return {record.seed: record.summary[figure] for record in records}
