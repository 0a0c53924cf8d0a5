"""From the records of a tier to its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from efficientconv.files import write_atomically
from efficientconv.reproduce.tier import Tier, trained_models
from efficientconv.results.arithmetic_tables import configuration_rows, topology_rows
from efficientconv.results.equal_cost import Needed
from efficientconv.results.markdown import csv_text, markdown_table
from efficientconv.results.plot import CURVE_LABELS, MACS_LABEL, TIME_LABEL, Point, plot, plot_curves
from efficientconv.results.statistics import Comparison, spread
from efficientconv.results.table_columns import UNITS
from efficientconv.results.table_files import Context, Findings, table_stem, table_title, write_texts, write_tier_table
from efficientconv.results.table_rows import (
    RecordsByRow,
    TableRow,
    by_row,
    comparison_of,
    judged_claims,
    needed_costs,
    table_rows,
)
from efficientconv.results.tables import Cost, TableConfig, model_of, needed_rows, table_config
from efficientconv.results.tier_latency import Times, measured_on, read_times, tier_times

ARITHMETIC = {"1": configuration_rows, "3": topology_rows}


def write_table(name: str, tier: Tier, seeds: Sequence[int], command: str, device: torch.device, again: bool) -> list[Path]:
    """Table `name` of what the tier's records hold of these seeds.

    Args:
        command: that makes it again.
        again: the networks' times are measured anew.
    """
    config = table_config(name)
    if not config.trained:
        return _write_arithmetic(name, config, tier, command)
    facts, size = tier.data_facts, tier.base.data.image_size
    models = tier.models([*needed_rows(config), *config.quoted])
    runs = by_row(models, [record for record in tier.records if record.seed in seeds])
    comparison = comparison_of(runs)
    shown = {row: models[row] for row in (*config.rows, *(row for row in config.quoted if runs[row]))}
    times, place = _times(name, config, [row for row in shown if runs[row]], tier, device, again)
    rows = table_rows(config, shown, runs, comparison, times, size, facts.num_classes)
    found = Findings(rows, judged_claims(config, rows, comparison), comparison, _needed(config, rows, comparison))
    context = Context(name, tier.name, tier.about, tier.conditions, command, place)
    pictures = write_curves(name, config, rows, tier) if config.curve_of else []
    return [*write_tier_table(tier.folder, config, found, context), *pictures]


def _times(
    name: str, config: TableConfig, trained: Sequence[str], tier: Tier, device: torch.device, again: bool
) -> tuple[Mapping[str, Times], str]:
    """By row, and where they were measured: all networks of the tier's width together; those of a table of curves that are
    trained by themselves, with a step of training."""
    if config.curve_of:
        path, rows = tier.folder / f"latency_{name}.csv", trained
    else:
        path, rows = tier.folder / "latency.csv", [*trained_models(), *config.rows, *trained]
    size, num_classes = tier.base.data.image_size, tier.data_facts.num_classes
    models = tier.models(dict.fromkeys(rows))
    times = tier_times(models, path, size, num_classes, device, again, with_training=config.curve_of is not None)
    return times, measured_on(path)


def _needed(config: TableConfig, rows: Sequence[TableRow], comparison: Comparison) -> dict[str, dict[Cost, Needed]]:
    needed: dict[str, dict[Cost, Needed]] = {}
    for kind in UNITS if config.curve_of else ():
        for row, found in needed_costs(config, rows, comparison, kind).items():
            needed.setdefault(row, {})[kind] = found
    return needed


def write_curves(name: str, config: TableConfig, rows: Sequence[TableRow], tier: Tier) -> list[Path]:
    """<name>_macs.png, <name>_inference.png and <name>_training.png: a line a model; without what was not measured."""
    pictures = {}
    for kind, (_, scale) in UNITS.items():
        points = [
            Point(row.name, row.cost(kind) / scale, row.top1.mean, row.top1.std, model_of(row.name), row.top1.n)
            for row in rows
            if row.top1 and row.cost(kind)
        ]
        if points:
            title = f"tier {tier.name}: {config.title}"
            pictures[tier.folder / f"{name}_{kind}.png"] = plot_curves(points, title, CURVE_LABELS[kind])
    for path, picture in pictures.items():
        write_atomically(path, picture)
    return list(pictures)


def write_plots(tier: Tier) -> list[Path]:
    """accuracy_macs.png and accuracy_time.png of the models with records at the tier's width, and with times; none while it
    has none."""
    names = dict.fromkeys(record.model for record in tier.records)
    runs = {name: records for name, records in by_row(tier.models(names), tier.records).items() if records}
    if not runs:
        return []
    times = read_times(tier.folder / "latency.csv")
    macs = {model: records[0].summary["macs"] / 1e6 for model, records in runs.items()}
    inference = {model: times[model].inference.ms_per_image for model in runs if model in times}
    pictures = {"accuracy_macs": (macs, MACS_LABEL), "accuracy_time": (inference, TIME_LABEL)}
    return [_plot(name, tier, runs, costs, label) for name, (costs, label) in pictures.items() if costs]


def _plot(name: str, tier: Tier, records: RecordsByRow, costs: Mapping[str, float], label: str) -> Path:
    top1 = {model: spread([record.summary["top1_percent"] for record in records[model]]) for model in costs}
    points = [Point(model, cost, top1[model].mean, top1[model].std) for model, cost in costs.items()]
    path = tier.folder / f"{name}.png"
    write_atomically(path, plot(points, f"tier {tier.name}: {tier.conditions}", label))
    return path


def _write_arithmetic(name: str, config: TableConfig, tier: Tier, command: str) -> list[Path]:
    models = tier.models(dict.fromkeys(["a", *config.rows]))
    rows = ARITHMETIC[name](models, tier.base.data.image_size, tier.data_facts.num_classes)
    text = (
        f"# {table_title(name)}, tier {tier.name}: {config.title}\n\nCounted from the models as they are built: width "
        f"{tier.base.model.width:g}. 1 MAC is one multiply-accumulate, 2 FLOPs.\n\n{markdown_table(rows)}\n\n"
        f"Made by `{command}`.\n"
    )
    return write_texts(tier.folder, {f"{table_stem(name)}.md": text, f"{table_stem(name)}.csv": csv_text(rows)})
