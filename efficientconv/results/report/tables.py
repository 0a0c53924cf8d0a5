"""The tables of the tiers, and the paper's points, as the page shows them."""

from __future__ import annotations

import re
from pathlib import Path

from efficientconv.files import CONFIG_DIR
from efficientconv.results import paper
from efficientconv.results.csv_files import csv_lines, csv_rows

COMPLEXITY = CONFIG_DIR.parent / "results" / "complexity.csv"


def tier_tables(folder: Path) -> list[dict]:
    """Title, header and rows of each: the first table of a markdown file, or of a csv file where there is no such table."""
    stems = {path.stem for pattern in ("table*.md", "table*.csv") for path in folder.glob(pattern)}
    return [_table(folder / stem) | {"tier": folder.name} for stem in sorted(stems)]


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


def _table(stem: Path) -> dict:
    text, figures = (Path(f"{stem}{suffix}") for suffix in (".md", ".csv"))
    lines = text.read_text().splitlines() if text.exists() else []
    title = next((line.lstrip("# ") for line in lines if line.startswith("#")), stem.name)
    if rows := _first_table(lines):
        return {"title": title, "file": text.name, "header": rows[0], "rows": rows[1:]}
    header, *rows = csv_lines(figures) or [[]] if figures.exists() else [[]]
    return {"title": title, "file": figures.name, "header": header, "rows": rows}


def _first_table(lines: list[str]) -> list[list[str]]:
    """The cells of the first table in a markdown file."""
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([_plain(cell) for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])])
        elif rows:
            break
    return [row for row in rows if any(cell.strip("-: ") for cell in row)]


def _plain(cell: str) -> str:
    """A markdown cell's text, without emphasis and escapes."""
    return re.sub(r"\\([\\|\[])", r"\1", cell.strip(" `*")).replace("&lt;", "<")
