"""From the records of a tier to its tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from efficientconv.reproduce.tier import Tier, trained_models
from efficientconv.results.arithmetic_tables import configuration_rows, topology_rows
from efficientconv.results.equal_cost import Needed
from efficientconv.results.figures import FIGURES
from efficientconv.results.pages import page, write_files
from efficientconv.results.plot import Point, plot
from efficientconv.results.statistics import Comparison
from efficientconv.results.table import Table
from efficientconv.results.table_columns import COSTS
from efficientconv.results.table_files import Context, Findings, table_stem, table_title, write_tier_table
from efficientconv.results.table_rows import TableRow, by_row, comparison_of, judged_claims, needed_costs, table_rows
from efficientconv.results.tables import Cost, TableConfig, model_of, needed_rows, table_config
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
    comparison = comparison_of(runs)
    shown = {row: models[row] for row in (*config.rows, *(row for row in config.quoted if runs[row]))}
    times, place = _times(name, config, [row for row in shown if runs[row]], tier, device, measure)
    size, num_classes = tier.base.data.image_size, tier.data_facts.num_classes
    rows = table_rows(config, shown, runs, comparison, times, size, num_classes)
    found = Findings(rows, judged_claims(config, rows, comparison), comparison, _needed(config, rows, comparison))
    context = Context(name, tier.name, tier.about, tier.conditions, command, place)
    pictures = write_curves(name, config, rows, tier) if config.curve_of else []
    return [*write_tier_table(tier.folder, config, found, context), *pictures]


def _times(
    name: str, config: TableConfig, trained: Sequence[str], tier: Tier, device: torch.device, measure: Measure
) -> tuple[Mapping[str, Times], str]:
    """By row, and where they were measured: all networks of the tier's width together; those of a table of curves that are
    trained by themselves, with a step of training."""
    if config.curve_of:
        path, rows = tier.folder / f"latency_{name}.csv", trained
    else:
        path, rows = tier.folder / "latency.csv", [*trained_models(), *config.rows, *trained]
    size, num_classes = tier.base.data.image_size, tier.data_facts.num_classes
    models = tier.models(dict.fromkeys(rows))
    times = tier_times(models, path, size, num_classes, device, measure, with_training=config.curve_of is not None)
    return times, measured_on(path)


def _needed(config: TableConfig, rows: Sequence[TableRow], comparison: Comparison) -> dict[Cost, dict[str, Needed]]:
    """Without the costs that were not measured."""
    found = {kind: needed_costs(config, rows, comparison, kind) for kind in (COSTS if config.curve_of else ())}
    return {kind: needed for kind, needed in found.items() if needed}


def write_curves(name: str, config: TableConfig, rows: Sequence[TableRow], tier: Tier) -> list[Path]:
    """<name>_macs, <name>_inference and <name>_training: a line a model; without what was not measured."""
    files = {}
    for kind, figure in COSTS.items():
        known = [row for row in rows if row.runs and row.cost(kind)]
        points = [Point(row.name, row.cost(kind), row.accuracy(), series=model_of(row.name)) for row in known]
        if points:
            picture = plot(points, f"tier {tier.name}: {config.title}", FIGURES[figure], joined=True)
            files |= {f"{name}_{kind}{ending}": content for ending, content in picture.items()}
    return write_files(tier.folder, files)


def write_plots(tier: Tier) -> list[Path]:
    """accuracy_macs and accuracy_time of the models with records at the tier's width, and with times; none while it has
    none."""
    names = dict.fromkeys(record.model for record in tier.records)
    runs = {name: records for name, records in by_row(tier.models(names), tier.records).items() if records}
    times, files = read_times(tier.folder / "latency.csv"), {}
    macs = {model: records[0].summary["macs"] for model, records in runs.items()}
    inference = {model: times[model].inference.ms_per_image for model in runs if model in times}
    for name, figure, costs in (("macs", "macs", macs), ("time", "ms_per_image", inference)):
        points = [Point.of(model, cost, runs[model]) for model, cost in costs.items()]
        if points:
            picture = plot(points, f"tier {tier.name}: {tier.conditions}", FIGURES[figure])
            files |= {f"accuracy_{name}{ending}": content for ending, content in picture.items()}
    return write_files(tier.folder, files)


def _write_arithmetic(name: str, config: TableConfig, tier: Tier, command: str) -> list[Path]:
    models = tier.models(dict.fromkeys(["a", *config.rows]))
    table = Table.of(ARITHMETIC[name](models, tier.base.data.image_size, tier.data_facts.num_classes))
    text = page(
        f"# {table_title(name)}, tier {tier.name}: {config.title}",
        f"Counted from the models as they are built: width {tier.base.model.width:g}. 1 MAC is one multiply-accumulate, 2 "
        "FLOPs.",
        table.markdown(),
        f"Made by `{command}`.",
    )
    return write_files(tier.folder, {f"{table_stem(name)}.md": text, f"{table_stem(name)}.csv": table.csv()})
