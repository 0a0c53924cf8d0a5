"""A line of a table with the paper's figures and ours, as its csv has it, and the columns that show it on pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from efficientconv.info import short_commit
from efficientconv.results import paper
from efficientconv.results.equal_cost import Needed
from efficientconv.results.figures import FIGURES
from efficientconv.results.statistics import Interval, Spread
from efficientconv.results.table import Column, Row
from efficientconv.results.table_config import COSTS, CostKind, TableConfig, budget_of, model_of
from efficientconv.text import interval

if TYPE_CHECKING:
    from efficientconv.results.table_rows import TableRow  # with torch, which takes seconds

ACCURACY = FIGURES["top1_percent"]
TOP1 = {"top1_mean_percent": "mean", "top1_std": "std", "top1_low": "low", "top1_high": "high", "n": "n"}
DIFFERENCE = {"difference_points": "mean", "difference_low": "low", "difference_high": "high"}
COUNTED = ("macs", "params", "ms_per_image", "training_ms_per_image")
SHOWN = {  # in the page's first and second table; in a table of curves: True
    False: ("row stages paper ours against macs over ms_per_image", "row interval top5 quoted params limit"),
    True: ("row width ours against macs over ms_per_image training_ms_per_image",
           "row stages interval top5 params limit training_limit"),
}  # fmt: skip


def line_of(row: TableRow, table: TableConfig, tier: str) -> Row:
    """The line of a row in the csv file: every figure, and how the runs were made."""
    error, seeds = paper.figure(row.name, "top1_error_percent"), sorted({record.seed for record in row.runs})
    printed = {"paper_top1_percent": error and 100 - float(error.value), "paper_source": error and error.source}
    return {
        "row": row.name, "stages": row.model.description, "width": f"{row.model.width:.9g}",
        **({} if table.curve_of else printed),  # of full width, on ImageNet
        **_parts(row.accuracy(), TOP1), **_parts(row.difference, DIFFERENCE),
        "macs": row.counted.macs, "macs_vs_baseline": row.macs_vs_baseline,
        "ms_per_image": row.cost("inference"), "training_ms_per_image": row.cost("training"),
        "top5_mean_percent": row.accuracy("top5_percent"), "params": row.counted.params,
        "of_limit": row.times and row.times.of_limit, "training_of_limit": row.times and row.times.training_of_limit,
        "seeds": seeds, "command": _command(row.name, tier, seeds),
        "commit": sorted({short_commit(record.environment) for record in row.runs}),
    }  # fmt: skip


def columns(table: TableConfig) -> dict[str, Column]:
    """The columns with figures, by their names in `SHOWN`."""
    return {
        "row": Column("model", "row"),
        "stages": Column("stages"),
        "width": Column("width", show=lambda width: f"{float(width):.4g}"),
        "paper": Column(f"paper: {ACCURACY.title} (M, unchecked)", "paper_top1_percent", ACCURACY.form),
        "ours": Column(f"ours: {ACCURACY.title}", accuracy_of, ACCURACY.form),
        "against": Column(f"against {table.baseline}, points", lambda line: _made(Interval, line, DIFFERENCE)),
        "interval": Column(f"{ACCURACY.title}: interval of the mean", _interval),
        "top5": FIGURES["top5_percent"].column("top5_mean_percent"),
        "quoted": Column(f"paper: {FIGURES['macs'].title}", lambda line: paper.value(line["row"], "quoted_macs")),
        **{name: FIGURES[name].column() for name in COUNTED},
        "over": Column(f"MACs of {table.baseline}'s", "macs_vs_baseline", ".3f"),
        "limit": Column("inference, of limit", "of_limit"),
        "training_limit": Column("training, of limit", "training_of_limit"),
    }


def shown(table: TableConfig) -> list[list[Column]]:
    """The columns of the page's tables of figures."""
    return [[columns(table)[name] for name in names.split()] for names in SHOWN[table.curve_of is not None]]


def needed_columns(kind: CostKind, needed: Mapping[str, Needed], curve: str) -> list[Column]:
    """The cost that the table's curve needs for the row's accuracy, beside the row's own cost. Rows are of `TableRow`."""
    figure = FIGURES[COSTS[kind]]
    names = {"cost": f"{kind}_needed", "low": f"{kind}_needed_low", "high": f"{kind}_needed_high"}
    return [
        Column(ACCURACY.title, lambda row: row.accuracy(), ACCURACY.form),
        Column(figure.title, lambda row: row.cost(kind), lambda cost: f"{cost / figure.scale:.3g}", name=kind),
        Column(f"{curve} needs", lambda row: _needed(needed[row.name], figure.scale)),
        Column("times its own", lambda row: _needed(needed[row.name], row.cost(kind))),
        *(Column(None, lambda row, part=part: getattr(needed.get(row.name), part, None), name=name)
          for part, name in names.items()),
    ]  # fmt: skip


def _command(row: str, tier: str, seeds: Sequence[int]) -> str:
    """The command that trains the row's runs."""
    budget = budget_of(row)
    width = "" if budget is None else f" model.macs={budget:g}"
    return f"python train.py -m tier={tier} model={model_of(row)}{width} seed={','.join(map(str, seeds))}" if seeds else ""


def accuracy_of(line: Row) -> Spread | None:
    return _made(Spread, line, TOP1)


def _parts(found: object, names: Mapping[str, str]) -> Row:
    return {name: getattr(found, part, None) for name, part in names.items()}


def _made(kind: type, line: Row, names: Mapping[str, str]) -> Any:
    """The object whose `_parts` are in the line; None if its mean is not."""
    values = {part: line.get(name) for name, part in names.items()}
    return None if values["mean"] is None else kind(**values)


def _interval(line: Row) -> str:
    return interval(line.get("top1_low"), line.get("top1_high"), ACCURACY.form)


def _needed(found: Needed, scale: float) -> str:
    cost = _bound(found.cost, scale)
    if found.low is None or found.high is None:
        return cost
    return f"{cost} ({_bound(found.low, scale)} to {_bound(found.high, scale)})"


def _bound(cost: float, scale: float) -> str:
    """The bound as shown. less, more: below or above the ends of the curve."""
    return "less" if cost == 0 else "more" if math.isinf(cost) else f"{cost / scale:.3g}"
