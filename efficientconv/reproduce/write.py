"""From the records of a tier to its tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from efficientconv.reproduce.plan import ComposeRun
from efficientconv.reproduce.tier import Tier, tier_models, trained_models
from efficientconv.results.arithmetic_tables import configuration_rows, topology_rows
from efficientconv.results.markdown import csv_text, markdown_table
from efficientconv.results.table_files import Context, table_stem, table_title, write_texts, write_tier_table
from efficientconv.results.table_rows import judged_claims, table_rows
from efficientconv.results.tables import TableConfig, table_config
from efficientconv.results.tier_latency import measured_on, tier_latencies

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
    facts, size = tier.data_facts(), tier.base.data.image_size
    records = tier.records(seeds)
    trained = {record.model for record in records}
    shown = [*config.rows, *(row for row in config.quoted if row in trained)]
    models = tier_models(tier.name, dict.fromkeys([*trained_models(), *shown]), compose)
    times = tier.folder / "latency.csv"
    latencies = tier_latencies(models, times, size, facts.num_classes, device, again)
    rows = table_rows(config, {row: models[row] for row in shown}, records, latencies, size, facts.num_classes)
    context = Context(name, tier.name, tier.conditions, command, measured_on(times))
    return write_tier_table(tier.folder, config, rows, judged_claims(config, records), context)


def _write_arithmetic(name: str, config: TableConfig, tier: Tier, command: str, compose: ComposeRun) -> list[Path]:
    models = tier_models(tier.name, dict.fromkeys(["a", *config.rows]), compose)
    rows = ARITHMETIC[name](models, tier.base.data.image_size, tier.data_facts().num_classes)
    text = (
        f"# {table_title(name)}, tier {tier.name}: {config.title}\n\nCounted from the models as they are built: width "
        f"{tier.base.model.width:g}. 1 MAC is one multiply-accumulate, 2 FLOPs.\n\n{markdown_table(rows)}\n\n"
        f"Made by `{command}`.\n"
    )
    return write_texts(tier.folder, {f"{table_stem(name)}.md": text, f"{table_stem(name)}.csv": csv_text(rows)})
