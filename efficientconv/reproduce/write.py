"""From the records of a tier to its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from efficientconv.files import write_atomically
from efficientconv.reproduce.plan import ComposeRun
from efficientconv.reproduce.tier import Tier, tier_models, trained_models
from efficientconv.results.arithmetic_tables import configuration_rows, topology_rows
from efficientconv.results.markdown import csv_text, markdown_table
from efficientconv.results.plot import MACS_LABEL, TIME_LABEL, Point, plot
from efficientconv.results.record import RunRecord
from efficientconv.results.statistics import spread
from efficientconv.results.table_files import Context, table_stem, table_title, write_texts, write_tier_table
from efficientconv.results.table_rows import judged_claims, table_rows
from efficientconv.results.tables import TableConfig, table_config
from efficientconv.results.tier_latency import measured_on, read_latencies, tier_latencies

ARITHMETIC = {"1": configuration_rows, "3": topology_rows}


def write_table(
    name: str, tier: Tier, seeds: Sequence[int], command: str, device: torch.device, again: bool, compose: ComposeRun
) -> list[Path]:
    """Table `name` of what the tier's records hold of these seeds.

    Args:
        command: that makes it again.
        again: the networks' times are measured anew.
    """
    config = table_config(name)
    if not config.trained:
        return _write_arithmetic(name, config, tier, command, compose)
    facts, size = tier.data_facts, tier.base.data.image_size
    records = [record for record in tier.records if record.seed in seeds]
    trained = {record.model for record in records}
    shown = [*config.rows, *(row for row in config.quoted if row in trained)]
    models = tier_models(tier.name, dict.fromkeys([*trained_models(), *shown]), compose)
    times = tier.folder / "latency.csv"
    latencies = tier_latencies(models, times, size, facts.num_classes, device, again)
    rows = table_rows(config, {row: models[row] for row in shown}, records, latencies, size, facts.num_classes)
    context = Context(name, tier.name, tier.about, tier.conditions, command, measured_on(times))
    return write_tier_table(tier.folder, config, rows, judged_claims(config, records), context)


def write_plots(tier: Tier) -> list[Path]:
    """accuracy_macs.png and accuracy_time.png of the models with records, and with times; none while it has none."""
    by_model: dict[str, list[RunRecord]] = {}
    for record in tier.records:
        by_model.setdefault(record.model, []).append(record)
    if not by_model:
        return []
    latencies = read_latencies(tier.folder / "latency.csv")
    macs = {model: records[0].summary["macs"] / 1e6 for model, records in by_model.items()}
    times = {model: latencies[model].ms_per_image for model in by_model if model in latencies}
    pictures = {"accuracy_macs": (macs, MACS_LABEL), "accuracy_time": (times, TIME_LABEL)}
    return [_plot(name, tier, by_model, costs, label) for name, (costs, label) in pictures.items() if costs]


def _plot(name: str, tier: Tier, records: Mapping[str, list[RunRecord]], costs: Mapping[str, float], label: str) -> Path:
    top1 = {model: spread([record.summary["top1_percent"] for record in records[model]]) for model in costs}
    points = [Point(model, cost, top1[model].mean, top1[model].std) for model, cost in costs.items()]
    path = tier.folder / f"{name}.png"
    write_atomically(path, plot(points, f"tier {tier.name}: {tier.conditions}", label))
    return path


def _write_arithmetic(name: str, config: TableConfig, tier: Tier, command: str, compose: ComposeRun) -> list[Path]:
    models = tier_models(tier.name, dict.fromkeys(["a", *config.rows]), compose)
    rows = ARITHMETIC[name](models, tier.base.data.image_size, tier.data_facts.num_classes)
    text = (
        f"# {table_title(name)}, tier {tier.name}: {config.title}\n\nCounted from the models as they are built: width "
        f"{tier.base.model.width:g}. 1 MAC is one multiply-accumulate, 2 FLOPs.\n\n{markdown_table(rows)}\n\n"
        f"Made by `{command}`.\n"
    )
    return write_texts(tier.folder, {f"{table_stem(name)}.md": text, f"{table_stem(name)}.csv": csv_text(rows)})
