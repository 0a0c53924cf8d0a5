"""Writes the tables and pictures of a tier from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from efficientconv.reproduce.tier import Tier, trained_models
from efficientconv.results.arithmetic_tables import configuration_rows, topology_rows
from efficientconv.results.complexity_table import network_cost
from efficientconv.results.figures import FIGURES
from efficientconv.results.pages import page, write_files
from efficientconv.results.plot import Point, plot
from efficientconv.results.statistics import Comparison
from efficientconv.results.table import Table
from efficientconv.results.table_columns import COSTS
from efficientconv.results.table_files import Context, table_title, write_tier_table
from efficientconv.results.table_rows import PaperTable, TableRow, by_row, by_seed
from efficientconv.results.tables import TableConfig, model_of, needed_rows, table_config
from efficientconv.results.tier_latency import Measure, Times, measured_on, read_times, tier_times

ARITHMETIC = {"1": configuration_rows, "3": topology_rows}


def write_table(
    name: str, tier: Tier, seeds: Sequence[int], command: str, device: torch.device, measure: Measure
) -> list[Path]:  # fmt: skip
    """Table `name` of what the tier's records hold of these seeds. `command` makes it again."""
    config = table_config(name)
    if not config.trained:
        return _write_arithmetic(name, config, tier, command)
    models = tier.models([*needed_rows(config), *config.quoted])
    runs = by_row(models, [record for record in tier.records if record.seed in seeds])
    comparison = Comparison({row: by_seed(records) for row, records in runs.items()})
    shown = {row: models[row] for row in (*config.rows, *(row for row in config.quoted if runs[row]))}
    times, place = _times(name, config, [row for row in shown if runs[row]], tier, device, measure)
    costs = {row: network_cost(model, *tier.images) for row, model in shown.items()}
    table = PaperTable(config, [
        TableRow(
            row, shown[row], cost, cost.macs / costs[config.baseline].macs, runs[row],
            None if row == config.baseline else comparison.difference(row, config.baseline), times.get(row),
        )
        for row, cost in costs.items()
    ], comparison)  # fmt: skip
    context = Context(name, tier.name, tier.about, tier.conditions, command, place)
    pictures = _write_curves(name, table, tier) if config.curve_of else []
    return [*write_tier_table(tier.folder, table, context), *pictures]


def _times(
    name: str, config: TableConfig, trained: Sequence[str], tier: Tier, device: torch.device, measure: Measure
) -> tuple[Mapping[str, Times], str]:
    """By row, and where they were measured: all networks of the tier's width together; those of a table of curves that are
    trained by themselves, with a step of training."""
    if config.curve_of:
        path, rows = tier.folder / f"latency_{name}.csv", trained
    else:
        path, rows = tier.folder / "latency.csv", [*trained_models(), *config.rows, *trained]
    models = tier.models(dict.fromkeys(rows))
    times = tier_times(models, path, *tier.images, device, measure, with_training=config.curve_of is not None)
    return times, measured_on(path)


def _write_curves(name: str, table: PaperTable, tier: Tier) -> list[Path]:
    """<name>_macs, <name>_inference and <name>_training: a line a model; without what was not measured."""
    points = {
        kind: [Point(row.name, row.cost(kind), row.accuracy(), series=model_of(row.name))
               for row in table.rows if row.runs and row.cost(kind)]
        for kind in COSTS
    }  # fmt: skip
    title = f"tier {tier.name}: {table.config.title}"
    return _write_pictures(tier, {f"{name}_{kind}": (of, title, COSTS[kind], True) for kind, of in points.items()})


def write_plots(tier: Tier) -> list[Path]:
    """accuracy_macs and accuracy_time of the models with records at the tier's width, and with times; none while it has
    none."""
    names = dict.fromkeys(record.model for record in tier.records)
    runs = {name: records for name, records in by_row(tier.models(names), tier.records).items() if records}
    times = read_times(tier.folder / "latency.csv")
    macs = [Point.of(name, records[0].summary["macs"], records) for name, records in runs.items()]
    time = [Point.of(name, times[name].inference.ms_per_image, runs[name]) for name in runs if name in times]
    title = f"tier {tier.name}: {tier.conditions}"
    pictures = {"accuracy_macs": (macs, title, "macs", False), "accuracy_time": (time, title, "ms_per_image", False)}
    return _write_pictures(tier, pictures)


def _write_pictures(tier: Tier, pictures: Mapping[str, tuple[Sequence[Point], str, str, bool]]) -> list[Path]:
    """Writes pictures, given by name with the arguments of `plot`. A picture without a point is left out."""
    files = {}
    for name, (points, title, figure, joined) in pictures.items():
        if points:
            drawn = plot(points, title, FIGURES[figure], joined)
            files |= {f"{name}{ending}": content for ending, content in drawn.items()}
    return write_files(tier.folder, files)


def _write_arithmetic(name: str, config: TableConfig, tier: Tier, command: str) -> list[Path]:
    models = tier.models(dict.fromkeys(["a", *config.rows]))
    table = Table.of(ARITHMETIC[name](models, *tier.images))
    text = page(
        f"# {table_title(name)}, tier {tier.name}: {config.title}",
        f"Counted from the models as they are built: width {tier.base.model.width:g}. 1 MAC is one multiply-accumulate, 2 "
        "FLOPs.",
        table.markdown(),
        f"Made by `{command}`.",
    )
    return write_files(tier.folder, {f"table{name}.md": text, f"table{name}.csv": table.csv()})
