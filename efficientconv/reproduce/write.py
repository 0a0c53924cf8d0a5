"""Writes the tables and pictures of a tier from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from efficientconv.reproduce.tier import Tier
from efficientconv.results.arithmetic_tables import configuration_rows, topology_rows
from efficientconv.results.complexity_table import network_cost
from efficientconv.results.figures import FIGURES
from efficientconv.results.pages import page, write_files
from efficientconv.results.plot import Point, plot
from efficientconv.results.statistics import Comparison
from efficientconv.results.table import Table
from efficientconv.results.table_files import Context, write_tier_table
from efficientconv.results.table_rows import PaperTable, TableRow, by_row, by_seed
from efficientconv.results.tables import COSTS, TableConfig, model_of, needed_rows, table_config, table_title
from efficientconv.results.times import Network, Times, measured_on, network_of

ARITHMETIC = {"1": configuration_rows, "3": topology_rows}


def write_table(name: str, tier: Tier, seeds: Sequence[int], command: str, times: Mapping[Network, Times]) -> list[Path]:
    """Table `name` of what the tier's records hold of these seeds. `command` makes it again."""
    config = table_config(name)
    if not config.trained:
        return _write_arithmetic(name, config, tier, command)
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
    context = Context(name, tier.name, tier.about, tier.conditions, command, measured_on(times))
    pictures = _write_curves(name, table, tier) if config.curve_of else []
    return [*write_tier_table(tier.folder, table, context), *pictures]


def _write_curves(name: str, table: PaperTable, tier: Tier) -> list[Path]:
    """<name>_macs, <name>_inference and <name>_training: a line a model; without what was not measured."""
    points = {
        kind: [Point(row.name, row.cost(kind), row.accuracy(), series=model_of(row.name))
               for row in table.rows if row.runs and row.cost(kind)]
        for kind in COSTS
    }  # fmt: skip
    title = f"tier {tier.name}: {table.config.title}"
    return _write_pictures(tier, {f"{name}_{kind}": (of, title, COSTS[kind], True) for kind, of in points.items()})


def write_plots(tier: Tier, times: Mapping[Network, Times]) -> list[Path]:
    """accuracy_macs and accuracy_time of the models with records at the tier's width, and with times; none while it has
    none."""
    models = tier.models(dict.fromkeys(record.model for record in tier.records))
    runs = {name: records for name, records in by_row(models, tier.records).items() if records}
    of_runs = {name: times[network_of(models[name])] for name in runs if network_of(models[name]) in times}
    macs = [Point.of(name, records[0].summary["macs"], records) for name, records in runs.items()]
    time = [Point.of(name, measured.ms_per_image, runs[name]) for name, measured in of_runs.items()]
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
