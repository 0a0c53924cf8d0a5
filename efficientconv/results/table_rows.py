"""A table of the paper beside ours: a row a model, from the records of its runs, and its claims with their verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from efficientconv.complexity import NetworkCost, count
from efficientconv.config import ModelConfig
from efficientconv.models import create_model, image_size_of
from efficientconv.results import paper
from efficientconv.results.equal_cost import Curve, Needed
from efficientconv.results.record import RunRecord
from efficientconv.results.statistics import Comparison, Difference, Spread, Verdict, judge, spread
from efficientconv.results.tables import Claim, Cost, TableConfig, model_of
from efficientconv.results.tier_latency import Times

RecordsByRow = Mapping[str, Sequence[RunRecord]]


@dataclass(frozen=True)
class TableRow:
    """Accuracies are those of the last epoch's weights on the test images, over seeds. None: not run, or not given."""

    name: str
    description: str
    width: float
    paper_top1_percent: float | None  # ImageNet, validation, centre crop
    paper_source: str
    paper_macs: int | None  # as the paper quotes them
    top1: Spread | None  # percent
    top5: Spread | None
    difference: Difference | None  # of top-1 from the baseline's, points
    macs: int
    macs_vs_baseline: float
    params: int
    times: Times | None
    seeds: tuple[int, ...]
    commits: tuple[str, ...]

    def cost(self, kind: Cost) -> float | None:
        """MACs, or ms per image; None: not measured."""
        if kind == "macs":
            return float(self.macs)
        latency = getattr(self.times, kind, None)
        return None if latency is None else latency.ms_per_image


@dataclass(frozen=True)
class JudgedClaim:
    claim: Claim
    verdict: Verdict


def by_row(models: Mapping[str, ModelConfig], records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Of each row the runs: those of its model at its width."""
    return {row: [record for record in records if _network(record.run_config.model) == _network(model)]
            for row, model in models.items()}  # fmt: skip


def comparison_of(runs: RecordsByRow) -> Comparison:
    return Comparison({row: top1(records) for row, records in runs.items()})


def table_rows(
    table: TableConfig, models: Mapping[str, ModelConfig], runs: RecordsByRow, comparison: Comparison,
    times: Mapping[str, Times], image_size: int | None, num_classes: int,
) -> list[TableRow]:  # fmt: skip
    """One for each of `models`, as the tier has them."""
    costs = {name: network_cost(config, image_size, num_classes) for name, config in models.items()}
    baseline = costs[table.baseline].macs
    return [
        _row(table, name, models[name], cost, cost.macs / baseline, runs[name], comparison, times.get(name))
        for name, cost in costs.items()
    ]


def judged_claims(table: TableConfig, rows: Sequence[TableRow], comparison: Comparison) -> list[JudgedClaim]:
    differences = [_difference(table, claim, rows, comparison) for claim in table.claims]
    verdicts = judge([(claim.relation, difference) for claim, difference in zip(table.claims, differences)])
    return list(map(JudgedClaim, table.claims, verdicts))


def curve_of(model: str, rows: Sequence[TableRow], comparison: Comparison, kind: Cost) -> Curve | None:
    """Through all rows of `model` that have runs; None where there is none, or a cost was not measured."""
    costs = {row.name: row.cost(kind) for row in rows if model_of(row.name) == model and row.top1}
    return Curve(comparison, costs) if costs and None not in costs.values() else None


def needed_costs(table: TableConfig, rows: Sequence[TableRow], comparison: Comparison, kind: Cost) -> dict[str, Needed]:
    """By row of another model: the cost at which the table's curve has its accuracy."""
    curve = curve_of(table.curve_of, rows, comparison, kind)
    others = [row.name for row in rows if model_of(row.name) != table.curve_of and row.top1 and row.cost(kind)]
    return {name: curve.needed(name) for name in others} if curve else {}


def top1(records: Sequence[RunRecord], figure: str = "top1_percent") -> dict[int, float]:
    """By seed."""
    return {record.seed: record.summary[figure] for record in records}


def network_cost(config: ModelConfig, image_size: int | None, num_classes: int) -> NetworkCost:
    size = image_size_of(config, image_size)
    with torch.device("meta"):  # shapes are all that counting needs
        return count(create_model(config, num_classes, image_size=image_size), (3, size, size))


def _network(model: ModelConfig) -> tuple[str, str, float]:
    return model.name, model.layout, model.width


def _difference(table: TableConfig, claim: Claim, rows: Sequence[TableRow], comparison: Comparison) -> Difference | None:
    if claim.at_equal is None:
        return comparison.difference(claim.row, claim.than)
    curve = curve_of(table.curve_of, rows, comparison, claim.at_equal)
    cost = next(row.cost(claim.at_equal) for row in rows if row.name == claim.row)
    return None if curve is None or cost is None else curve.difference(claim.row, cost)


def _row(
    table: TableConfig, name: str, config: ModelConfig, cost: NetworkCost, share: float, runs: Sequence[RunRecord],
    comparison: Comparison, times: Times | None,
) -> TableRow:  # fmt: skip
    seeds, at_tiers_width = top1(runs), table.curve_of is None
    error = paper.figure(name, "top1_error_percent") if at_tiers_width else None
    quoted = paper.figure(name, "quoted_macs") if at_tiers_width else None
    return TableRow(
        name=name,
        description=config.description,
        width=config.width,
        paper_top1_percent=100 - float(error.value) if error else None,
        paper_source=error.source if error else "",
        paper_macs=int(quoted.value) * 10**6 if quoted else None,
        top1=spread(list(seeds.values())) if seeds else None,
        top5=spread(list(top1(runs, "top5_percent").values())) if seeds else None,
        difference=None if name == table.baseline else comparison.difference(name, table.baseline),
        macs=cost.macs,
        macs_vs_baseline=share,
        params=cost.params,
        times=times,
        seeds=tuple(sorted(seeds)),
        commits=tuple(sorted({_commit(record) for record in runs})),
    )


def _commit(record: RunRecord) -> str:
    """Of the code that its process started with, shortened; with a plus where files differed from it."""
    commit = record.environment.get("git_commit")
    return "unknown" if commit is None else commit[:7] + ("+" if record.environment["git_dirty"] else "")
