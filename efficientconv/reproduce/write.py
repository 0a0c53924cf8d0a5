"""Writes the tables and pictures of a tier from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from efficientconv.reproduce.table_files import write_tier_table
from efficientconv.reproduce.tier import Tier
from efficientconv.results.arithmetic_tables import configuration_rows, topology_rows
from efficientconv.results.complexity_table import network_cost
from efficientconv.results.figures import FIGURES
from efficientconv.results.pages import page, write_files
from efficientconv.results.plot import Point, plot
from efficientconv.results.statistics import Comparison
from efficientconv.results.table import Table
from efficientconv.results.table_config import COSTS, TableConfig, model_of, needed_rows, table_config
from efficientconv.results.table_rows import PaperTable, TableRow, by_row, by_seed
from efficientconv.results.times import NetworkKey, Times, measured_on, network_of

ARITHMETIC = {"1": configuration_rows, "3": topology_rows}


def write_table(name: str, tier: Tier, seeds: Sequence[int], command: str, times: Mapping[NetworkKey, Times]) -> list[Path]:
    """Table `name` of what the tier's records hold of these seeds. `command` makes it again."""
    config = table_config(name)
    if not config.trained:
        return _write_arithmetic(config, tier, command)
    models = tier.models([*needed_rows(config), *config.quoted])
    runs = by_row(models, [record for record in tier.records if record.seed in seeds])
    comparison = Comparison({row: by_seed(records) for row, records in runs.items()})
    shown = {row: models[row] for row in (*config.rows, *(row for row in config.quoted if runs[row]))}
    costs = {row: network_cost(model, *tier.images) for row, model in shown.items()}
    table = PaperTable(config, [
        TableRow(
            row, shown[row], cost, cost.macs / costs[config.baseline].macs, runs[row],
            None if row == config.baseline else comparison.difference(row, config.baseline),
            times.get(network_of(shown[row])),
        )
        for row, cost in costs.items()
    ], comparison)  # fmt: skip
    written = write_tier_table(tier, table, command, measured_on(times))
    return [*written, *(_write_curves(table, tier) if config.curve_of else [])]


def _write_curves(table: PaperTable, tier: Tier) -> list[Path]:
    """<name>_macs, <name>_inference and <name>_training: a line a model; without what was not measured."""
    paths = []
    for kind, figure in COSTS.items():
        points = [
            Point(row.name, cost, accuracy, series=model_of(row.name))
            for row in table.rows if (cost := row.cost(kind)) and (accuracy := row.accuracy())
        ]  # fmt: skip
        paths += _write_picture(tier, f"{table.config.name}_{kind}", points, table.config.title, figure, joined=True)
    return paths


def write_plots(tier: Tier, times: Mapping[NetworkKey, Times]) -> list[Path]:
    """accuracy_macs and accuracy_time of the models with records at the tier's width, and with times; none while it has
    none."""
    models = tier.models(dict.fromkeys(record.model for record in tier.records))
    runs = {name: records for name, records in by_row(models, tier.records).items() if records}
    of_runs = {name: times[network_of(models[name])] for name in runs if network_of(models[name]) in times}
    macs = [Point.of(name, records[0].summary["macs"], records) for name, records in runs.items()]
    time = [Point.of(name, measured.ms_per_image, runs[name]) for name, measured in of_runs.items()]
    return [
        *_write_picture(tier, "accuracy_macs", macs, tier.conditions, "macs"),
        *_write_picture(tier, "accuracy_time", time, tier.conditions, "ms_per_image"),
    ]


def _write_picture(
    tier: Tier, name: str, points: Sequence[Point], title: str, figure: str, joined: bool = False
) -> list[Path]:
    """Writes <name>.png and .svg, a `plot` over a figure of cost; nothing without points."""
    files = plot(points, f"tier {tier.name}: {title}", FIGURES[figure], joined) if points else {}
    return write_files(tier.folder, {f"{name}{ending}": content for ending, content in files.items()})


def _write_arithmetic(config: TableConfig, tier: Tier, command: str) -> list[Path]:
    models = tier.models(dict.fromkeys(["a", *config.rows]))
    table = Table.of(ARITHMETIC[config.name](models, *tier.images))
    text = page(
        f"# {config.heading}, tier {tier.name}: {config.title}",
        f"Counted from the models as they are built: width {tier.base.model.width:g}. 1 MAC is one multiply-accumulate, 2 "
        "FLOPs.",
        table.markdown(),
        f"Made by `{command}`.",
    )
    return write_files(tier.folder, {f"table{config.suffix}.md": text, f"table{config.suffix}.csv": table.csv()})
