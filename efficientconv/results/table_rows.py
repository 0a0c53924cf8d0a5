"""A table of the paper beside ours: a row a model, from the records of its runs, and its claims with their verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from efficientconv.complexity import NetworkCost
from efficientconv.config import ModelConfig
from efficientconv.results.complexity_table import network_cost
from efficientconv.results.equal_cost import Curve, Needed
from efficientconv.results.record import RunRecord
from efficientconv.results.statistics import Comparison, Difference, Spread, Verdict, judge, spread
from efficientconv.results.tables import Claim, Cost, TableConfig, model_of
from efficientconv.results.tier_latency import Times

RecordsByRow = Mapping[str, Sequence[RunRecord]]


@dataclass(frozen=True)
class TableRow:
    """Accuracies are those of the last epoch's weights on the test images, over seeds. None: not run."""

    name: str
    model: ModelConfig
    counted: NetworkCost
    macs_vs_baseline: float
    runs: Sequence[RunRecord]
    difference: Difference | None  # of top-1 from the baseline's, points
    times: Times | None

    def accuracy(self, figure: str = "top1_percent") -> Spread | None:
        values = by_seed(self.runs, figure)
        return spread(list(values.values())) if values else None

    def cost(self, kind: Cost) -> float | None:
        """MACs, or ms per image; None: not measured."""
        if kind == "macs":
            return self.counted.macs
        latency = getattr(self.times, kind, None)
        return None if latency is None else latency.ms_per_image


    def of_limit(self, kind: Cost) -> str | None:
        """What share of its limit a measured time reaches; None: not known."""
        found = self.times and self.times.of_limit.get(kind)
        return str(found) if found else None


@dataclass(frozen=True)
class JudgedClaim:
    claim: Claim
    verdict: Verdict


def by_row(models: Mapping[str, ModelConfig], records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Of each row the runs: those of its model at its width."""
    return {row: [record for record in records if _network(record.run_config.model) == _network(model)]
            for row, model in models.items()}  # fmt: skip


def comparison_of(runs: RecordsByRow) -> Comparison:
    return Comparison({row: by_seed(records) for row, records in runs.items()})


def table_rows(
    table: TableConfig, models: Mapping[str, ModelConfig], runs: RecordsByRow, comparison: Comparison,
    times: Mapping[str, Times], image_size: int | None, num_classes: int,
) -> list[TableRow]:  # fmt: skip
    """One for each of `models`, as the tier has them."""
    costs = {name: network_cost(config, image_size, num_classes) for name, config in models.items()}
    return [
        TableRow(
            name, models[name], cost, cost.macs / costs[table.baseline].macs, runs[name],
            None if name == table.baseline else comparison.difference(name, table.baseline), times.get(name),
        )
        for name, cost in costs.items()
    ]  # fmt: skip


def judged_claims(table: TableConfig, rows: Sequence[TableRow], comparison: Comparison) -> list[JudgedClaim]:
    differences = [_difference(table, claim, rows, comparison) for claim in table.claims]
    verdicts = judge([(claim.relation, difference) for claim, difference in zip(table.claims, differences)])
    return list(map(JudgedClaim, table.claims, verdicts))


def curve_of(model: str, rows: Sequence[TableRow], comparison: Comparison, kind: Cost) -> Curve | None:
    """Through all rows of `model` that have runs; None where there is none, or a cost was not measured."""
    costs = {row.name: row.cost(kind) for row in rows if model_of(row.name) == model and row.runs}
    return Curve(comparison, costs) if costs and None not in costs.values() else None


def needed_costs(table: TableConfig, rows: Sequence[TableRow], comparison: Comparison, kind: Cost) -> dict[str, Needed]:
    """By row of another model: the cost at which the table's curve has its accuracy."""
    curve = curve_of(table.curve_of, rows, comparison, kind)
    others = [row.name for row in rows if model_of(row.name) != table.curve_of and row.runs and row.cost(kind)]
    return {name: curve.needed(name) for name in others} if curve else {}


def by_seed(records: Sequence[RunRecord], figure: str = "top1_percent") -> dict[int, float]:
    return {record.seed: record.summary[figure] for record in records}


def _network(model: ModelConfig) -> tuple[str, str, float]:
    return model.name, model.layout, model.width


def _difference(table: TableConfig, claim: Claim, rows: Sequence[TableRow], comparison: Comparison) -> Difference | None:
    if claim.at_equal is None:
        return comparison.difference(claim.row, claim.than)
    curve = curve_of(table.curve_of, rows, comparison, claim.at_equal)
    cost = next(row.cost(claim.at_equal) for row in rows if row.name == claim.row)
    return None if curve is None or cost is None else curve.difference(claim.row, cost)
