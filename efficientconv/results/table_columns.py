"""A line of a table with the paper's figures and ours, as its csv has it, and the columns that show it on pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientconv.info import short_commit
from efficientconv.results import paper
from efficientconv.results.csv_files import csv_rows
from efficientconv.results.equal_cost import Needed
from efficientconv.results.figures import FIGURES
from efficientconv.results.statistics import Interval, Spread
from efficientconv.results.table import Column
from efficientconv.results.tables import COSTS, Cost, TableConfig, budget_of, model_of
from efficientconv.text import interval

if TYPE_CHECKING:
    from efficientconv.results.table_rows import TableRow  # with torch, which takes seconds

Line = Mapping[str, object]
TOP1 = {"top1_mean_percent": "mean", "top1_std": "std", "top1_low": "low", "top1_high": "high", "n": "n"}
DIFFERENCE = {"difference_points": "mean", "difference_low": "low", "difference_high": "high"}
COUNTED = ("macs", "params", "ms_per_image", "training_ms_per_image")
SHOWN = {  # in the page's first and second table; in a table of curves: True
    False: ("row stages paper ours against macs over ms_per_image", "row interval top5 quoted params limit"),
    True: ("row width ours against macs over ms_per_image training_ms_per_image",
           "row stages interval top5 params limit training_limit"),
}  # fmt: skip


def line_of(row: TableRow, table: TableConfig, tier: str) -> Line:
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


def read_lines(path: Path) -> list[Line]:
    """The lines of a csv file of such a table. Numbers are numbers; an empty cell is None."""
    return [{name: _typed(cell) for name, cell in line.items()} for line in csv_rows(path)]


def columns(table: TableConfig) -> dict[str, Column]:
    """The columns with figures, by their names in `SHOWN`."""
    return {
        "row": Column("model", lambda line: line["row"]),
        "stages": _column("stages"),
        "width": _column("width", "width", lambda width: f"{float(width):.4g}"),
        "paper": _column("paper_top1_percent", "paper: top-1 % (M, unchecked)", ".2f"),
        "ours": Column("ours: top-1 %", accuracy_of, FIGURES["top1_percent"].form),
        "against": Column(f"against {table.baseline}, points", lambda line: _made(Interval, line, DIFFERENCE)),
        "interval": Column("top-1 %: interval of the mean", _interval),
        "top5": FIGURES["top5_percent"].column(lambda line: line.get("top5_mean_percent")),
        "quoted": Column("paper: M MACs", lambda line: paper.value(line["row"], "quoted_macs")),
        **{name: FIGURES[name].column(lambda line, name=name: line.get(name)) for name in COUNTED},
        "over": _column("macs_vs_baseline", f"MACs of {table.baseline}'s", ".3f"),
        "limit": _column("of_limit", "inference, of limit"),
        "training_limit": _column("training_of_limit", "training, of limit"),
    }


def shown(table: TableConfig) -> list[list[Column]]:
    """The columns of the page's tables of figures."""
    return [[columns(table)[name] for name in names.split()] for names in SHOWN[table.curve_of is not None]]


def needed_columns(kind: Cost, needed: Mapping[str, Needed], curve: str) -> list[Column]:
    """The cost that the table's curve needs for the row's accuracy, beside the row's own cost. Rows are of `TableRow`."""
    figure = FIGURES[COSTS[kind]]
    names = {"cost": f"{kind}_needed", "low": f"{kind}_needed_low", "high": f"{kind}_needed_high"}
    return [
        Column("top-1 %", lambda row: row.accuracy(), ".2f"),
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


def accuracy_of(line: Line) -> Spread | None:
    return _made(Spread, line, TOP1)


def _parts(found: object, names: Mapping[str, str]) -> Line:
    return {name: getattr(found, part, None) for name, part in names.items()}


def _made(kind: type, line: Line, names: Mapping[str, str]) -> Any:
    """The object whose `_parts` are in the line; None if its mean is not."""
    values = {part: line.get(name) for name, part in names.items()}
    return None if values["mean"] is None else kind(**values)


def _column(name: str, title: str | None = None, show: str | Callable[[Any], str] = "") -> Column:
    return Column(title or name, lambda line: line.get(name), show)


def _interval(line: Line) -> str:
    return interval(line.get("top1_low"), line.get("top1_high"), FIGURES["top1_percent"].form)


def _typed(cell: str) -> object:
    try:
        return (int if cell.isdigit() else float)(cell)
    except ValueError:
        return cell or None


def _needed(found: Needed, scale: float) -> str:
    interval = "" if found.low is None else f" ({_bound(found.low, scale)} to {_bound(found.high, scale)})"
    return f"{_bound(found.cost, scale)}{interval}"


def _bound(cost: float, scale: float) -> str:
    """The bound as shown. less, more: below or above the ends of the curve."""
    return "less" if cost == 0 else "more" if math.isinf(cost) else f"{cost / scale:.3g}"
