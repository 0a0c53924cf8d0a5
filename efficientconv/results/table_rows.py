"""A table of the paper beside ours: a row a model, from the records of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from efficientconv.complexity import NetworkCost, count
from efficientconv.config import ModelConfig
from efficientconv.latency import Latency
from efficientconv.models import create_model, image_size_of
from efficientconv.results import paper
from efficientconv.results.record import RunRecord
from efficientconv.results.statistics import Spread, Verdict, judge, paired_difference, spread
from efficientconv.results.tables import Claim, TableConfig


@dataclass(frozen=True)
class TableRow:
    """Accuracies are those of the last epoch's weights on the test images, over seeds. None: not run, or not given."""

    model: str
    description: str
    paper_top1_percent: float | None  # ImageNet, validation, centre crop
    paper_source: str
    paper_macs: int | None  # as the paper quotes them
    top1: Spread | None  # percent
    top5: Spread | None
    difference: Spread | None  # of top-1 from the baseline's, paired over seeds, points
    macs: int
    macs_vs_baseline: float
    params: int
    latency: Latency | None
    seeds: tuple[int, ...]
    commits: tuple[str, ...]


@dataclass(frozen=True)
class JudgedClaim:
    claim: Claim
    verdict: Verdict


def table_rows(
    table: TableConfig,
    models: Mapping[str, ModelConfig],
    records: Sequence[RunRecord],
    latencies: Mapping[str, Latency],
    image_size: int | None,
    num_classes: int,
) -> list[TableRow]:
    """One for each of `models`, as the tier has them; `records`: finished runs of the tier, of these models or others."""
    baseline = network_cost(models[table.baseline], image_size, num_classes).macs
    rows = []
    for name, config in models.items():
        cost = network_cost(config, image_size, num_classes)
        rows.append(_row(config, cost, baseline, table.baseline, records, latencies.get(name)))
    return rows


def judged_claims(table: TableConfig, records: Sequence[RunRecord]) -> list[JudgedClaim]:
    return [
        JudgedClaim(claim, judge(claim.relation, paired_difference(top1(records, claim.row), top1(records, claim.than))))
        for claim in table.claims
    ]


def top1(records: Sequence[RunRecord], model: str, figure: str = "top1_percent") -> dict[int, float]:
    """By seed."""
    return {record.seed: record.summary[figure] for record in records if record.model == model}


def network_cost(config: ModelConfig, image_size: int | None, num_classes: int) -> NetworkCost:
    size = image_size_of(config, image_size)
    with torch.device("meta"):  # shapes are all that counting needs
        return count(create_model(config, num_classes, image_size=image_size), (3, size, size))


def _row(
    config: ModelConfig, cost: NetworkCost, baseline_macs: int, baseline: str, records: Sequence[RunRecord],
    latency: Latency | None,
) -> TableRow:  # fmt: skip
    name, seeds = config.name, top1(records, config.name)
    error, quoted = paper.figure(name, "top1_error_percent"), paper.figure(name, "quoted_macs")
    return TableRow(
        model=name,
        description=config.description,
        paper_top1_percent=100 - float(error.value) if error else None,
        paper_source=error.source if error else "",
        paper_macs=int(quoted.value) * 10**6 if quoted else None,
        top1=spread(list(seeds.values())) if seeds else None,
        top5=spread(list(top1(records, name, "top5_percent").values())) if seeds else None,
        difference=None if name == baseline else paired_difference(seeds, top1(records, baseline)),
        macs=cost.macs,
        macs_vs_baseline=cost.macs / baseline_macs,
        params=cost.params,
        latency=latency,
        seeds=tuple(sorted(seeds)),
        commits=tuple(sorted({_commit(record) for record in records if record.model == name})),
    )


def _commit(record: RunRecord) -> str:
    """Of the code that its process started with, shortened; with a plus where files differed from it."""
    commit = record.environment.get("git_commit")
    return "unknown" if commit is None else commit[:7] + ("+" if record.environment["git_dirty"] else "")
