"""The tables of the tiers, and the paper's points, as the page shows them."""

from __future__ import annotations

from pathlib import Path

from efficientconv.files import CONFIG_DIR
from efficientconv.results import paper
from efficientconv.results.csv_files import csv_rows, number
from efficientconv.results.figures import FIGURES
from efficientconv.results.statistics import Spread
from efficientconv.results.table import Column, Table
from efficientconv.results.tables import table_config, table_names, table_title
from efficientconv.text import interval

COMPLEXITY = CONFIG_DIR.parent / "results" / "complexity.csv"


def _accuracy(row: dict[str, str]) -> Spread | None:
    mean, std, low, high = (number(row.get(name)) for name in ("top1_mean_percent", "top1_std", "top1_low", "top1_high"))
    return None if mean is None else Spread(mean, std, int(row["n"]), low, high)


def _interval(row: dict[str, str], of: str, form: str) -> str:
    return interval(number(row.get(f"{of}_low")), number(row.get(f"{of}_high")), form)


COLUMNS = [  # of the lines of a table with trained rows
    Column("model", lambda row: row["row"]),
    Column("stages", lambda row: row.get("stages")),
    Column("width", lambda row: number(row.get("width")), ".4g"),
    Column("paper: top-1 % (M, unchecked)", lambda row: number(row.get("paper_top1_percent")), ".2f"),
    Column("ours: top-1 %", _accuracy, FIGURES["top1_percent"].form),
    Column("interval of the mean", lambda row: _interval(row, "top1", ".2f")),
    Column("against the baseline, points", lambda row: number(row.get("difference_points")), "+.2f"),
    Column("interval of the difference", lambda row: _interval(row, "difference", "+.2f")),
    FIGURES["macs"].column(lambda row: number(row.get("macs"))),
    Column("MACs of the baseline's", lambda row: number(row.get("macs_vs_baseline")), ".3f"),
    FIGURES["ms_per_image"].column(lambda row: number(row.get("ms_per_image"))),
    Column("inference, of limit", lambda row: row.get("of_limit")),
    FIGURES["training_ms_per_image"].column(lambda row: number(row.get("training_ms_per_image"))),
    Column("training, of limit", lambda row: row.get("training_of_limit")),
    FIGURES["top5_percent"].column(lambda row: number(row.get("top5_mean_percent"))),
    FIGURES["params"].column(lambda row: number(row.get("params"))),
]


def tier_tables(folder: Path) -> list[dict[str, str]]:
    """Tier, file, title and HTML of each."""
    return [_table(path) for path in sorted(folder.glob("table*.csv"))]


def paper_points() -> list[dict]:
    """The paper's accuracies on ImageNet, at the costs that we count for its networks there."""
    costs = {row["model"]: row for row in csv_rows(COMPLEXITY) if row["layout"] == "imagenet"}
    errors = {figure.row: figure for figure in paper.figures() if figure.column == "top1_error_percent"}
    return [
        {
            "model": model, "top1": round(100 - float(error.value), 2), "tables": error.tables, "mark": error.source,
            "macs": int(costs[model]["macs"]), "params": int(costs[model]["params"]),
        }
        for model, error in errors.items()
        if model in costs
    ]  # fmt: skip


def _table(path: Path) -> dict[str, str]:
    rows, name = csv_rows(path), path.stem.removeprefix("table").removeprefix("_")
    title = f"{table_title(name)}: {table_config(name).title}" if name in table_names() else path.stem
    table = Table(rows, COLUMNS) if rows and "row" in rows[0] else Table.of(rows)
    return {"tier": path.parent.name, "file": path.name, "title": title, "html": table.html()}
