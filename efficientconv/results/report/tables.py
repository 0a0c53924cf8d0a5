"""The tables of the tiers, and the paper's points, as the page shows them."""

from __future__ import annotations

from pathlib import Path

from efficientconv.csv_files import read_rows
from efficientconv.files import CONFIG_DIR
from efficientconv.results import paper
from efficientconv.results.table import Table
from efficientconv.results.table_columns import columns
from efficientconv.results.table_config import table_config, table_names

COMPLEXITY = CONFIG_DIR.parent / "results" / "complexity.csv"


def tier_tables(folder: Path) -> list[dict[str, str]]:
    """Tier, file, title and HTML of each."""
    return [_table(path) for path in sorted(folder.glob("table*.csv"))]


def paper_points() -> list[dict]:
    """The paper's accuracies on ImageNet, at the costs that we count for its networks there."""
    costs = {row["model"]: row for row in read_rows(COMPLEXITY) if row["layout"] == "imagenet"}
    errors = {figure.row: figure for figure in paper.figures() if figure.column == "top1_error_percent"}
    return [
        {
            "model": model, "top1": round(100 - float(error.value), 2), "tables": error.tables, "mark": error.source,
            "macs": costs[model]["macs"], "params": costs[model]["params"],
        }
        for model, error in errors.items()
        if model in costs
    ]  # fmt: skip


def _table(path: Path) -> dict[str, str]:
    rows, name = read_rows(path), path.stem.removeprefix("table").removeprefix("_")
    config = table_config(name) if name in table_names() else None
    title = f"{config.heading}: {config.title}" if config else path.stem
    table = Table(rows, list(columns(config).values())) if config and config.trained else Table.of(rows)
    return {"tier": path.parent.name, "file": path.name, "title": title, "html": table.html()}
