"""The columns of a table with the paper's figures and ours. Each is one line: title on the page, and name in the csv."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from efficientconv.results import paper
from efficientconv.results.equal_cost import Needed
from efficientconv.results.figures import FIGURES
from efficientconv.results.table import Column
from efficientconv.results.table_rows import TableRow
from efficientconv.results.tables import COSTS, Cost, TableConfig, budget_of, model_of
from efficientconv.text import interval

SPREAD = {"mean": "top1_mean_percent", "std": "top1_std", "low": "top1_low", "high": "top1_high", "n": "n"}
DIFFERENCE = {"mean": "difference_points", "low": "difference_low", "high": "difference_high"}
ROW = Column("model", lambda row: row.name, name="row")


def main_columns(table: TableConfig) -> list[Column]:
    """The main columns: accuracy and cost."""
    of_curves, training = table.curve_of is not None, FIGURES["training_ms_per_image"].column(_cost("training"))
    printed = [
        Column("paper: top-1 % (M, unchecked)", _paper_top1, ".2f", name="paper_top1_percent"),
        *_parts(lambda row: paper.figure(row.name, "top1_error_percent"), {"source": "paper_source"}),
    ]
    return [
        ROW,
        Column(None if of_curves else "stages", lambda row: row.model.description, name="stages"),
        Column("width" if of_curves else None, lambda row: row.model.width, ".4g"),
        Column(None, lambda row: f"{row.model.width:.9g}", name="width"),
        *([] if of_curves else printed),  # of full width, on ImageNet
        Column("ours: top-1 %", TableRow.accuracy, FIGURES["top1_percent"].form),
        *_parts(TableRow.accuracy, SPREAD),
        Column(f"against {table.baseline}, points", lambda row: row.difference),
        *_parts(lambda row: row.difference, DIFFERENCE),
        FIGURES["macs"].column(lambda row: row.counted.macs),
        Column(f"MACs of {table.baseline}'s", lambda row: row.macs_vs_baseline, ".3f", name="macs_vs_baseline"),
        FIGURES["ms_per_image"].column(_cost("inference")),
        training if of_curves else replace(training, title=None),
    ]


def more_columns(table: TableConfig) -> list[Column]:
    """The columns of a second table with the same rows."""
    return [
        Column("model", lambda row: row.name),
        Column("stages" if table.curve_of else None, lambda row: row.model.description),
        Column("top-1 %: interval of the mean", _interval),
        Column("top-5 %", lambda row: row.accuracy("top5_percent"), FIGURES["top5_percent"].form),
        *_parts(lambda row: row.accuracy("top5_percent"), {"mean": "top5_mean_percent"}),
        Column("paper: M MACs", lambda row: None if table.curve_of else paper.value(row.name, "quoted_macs")),
        FIGURES["params"].column(lambda row: row.counted.params),
        Column("inference, of limit", lambda row: row.times and row.times.of_limit, name="of_limit"),
        Column("training, of limit" if table.curve_of else None, lambda row: row.times and row.times.training_of_limit,
               name="training_of_limit"),
    ]


def run_columns(tier: str) -> list[Column]:
    """The columns that say how the runs were made."""
    return [
        Column("model", lambda row: row.name),
        Column(None, seeds_of, name="seeds"),
        Column("command", lambda row: row_command(row, tier), "`{}`".format, "command"),
        Column("commits", commits_of, ", ".join, "commit"),
    ]


def needed_columns(kind: Cost, needed: Mapping[str, Needed], curve: str) -> list[Column]:
    """The cost that the table's curve needs for the row's accuracy, beside the row's own cost."""
    figure = FIGURES[COSTS[kind]]
    names = {"cost": f"{kind}_needed", "low": f"{kind}_needed_low", "high": f"{kind}_needed_high"}
    return [
        Column("top-1 %", TableRow.accuracy, ".2f"),
        Column(figure.title, _cost(kind), lambda cost: f"{cost / figure.scale:.3g}", name=kind),
        Column(f"{curve} needs", lambda row: _needed(needed[row.name], figure.scale)),
        Column("times its own", lambda row: _needed(needed[row.name], row.cost(kind))),
        *_parts(lambda row: needed.get(row.name), names),
    ]


def row_command(row: TableRow, tier: str) -> str:
    """The command that trains the row's runs."""
    budget = budget_of(row.name)
    width = "" if budget is None else f" model.macs={budget:g}"
    seeds = ",".join(map(str, seeds_of(row)))
    return f"python train.py -m tier={tier} model={model_of(row.name)}{width} seed={seeds}" if seeds else ""


def seeds_of(row: TableRow) -> list[int]:
    return sorted({record.seed for record in row.runs})


def commits_of(row: TableRow) -> list[str]:
    """The shortened commits of the code that the runs started with. A plus means that files differed from the commit."""
    found = [(record.environment.get("git_commit"), record.environment.get("git_dirty")) for record in row.runs]
    return sorted({"unknown" if commit is None else commit[:7] + ("+" if dirty else "") for commit, dirty in found})


def _paper_top1(row: TableRow) -> float | None:
    error = paper.value(row.name, "top1_error_percent")
    return 100 - float(error) if error else None


def _parts(value: Callable[[object], object], names: dict[str, str]) -> list[Column]:
    """Columns of a csv file: attributes of the object that `value` takes out of a row; empty if the object is None."""
    return [Column(None, lambda row, key=key: getattr(value(row), key, None), name=name) for key, name in names.items()]


def _cost(kind: Cost) -> Callable[[TableRow], float | None]:
    return lambda row: row.cost(kind)


def _interval(row: TableRow) -> str | None:
    found = row.accuracy()
    return found and interval(found.low, found.high, FIGURES["top1_percent"].form)


def _needed(found: Needed, scale: float) -> str:
    interval = "" if found.low is None else f" ({_bound(found.low, scale)} to {_bound(found.high, scale)})"
    return f"{_bound(found.cost, scale)}{interval}"


def _bound(cost: float, scale: float) -> str:
    """The bound as shown. less, more: below or above the ends of the curve."""
    return "less" if cost == 0 else "more" if math.isinf(cost) else f"{cost / scale:.3g}"
