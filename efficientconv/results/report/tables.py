"""The tables and verdicts of the tiers, and the paper's points, as the page shows them."""

from __future__ import annotations

import re
from pathlib import Path

from efficientconv.config import CONFIG_DIR
from efficientconv.results import paper
from efficientconv.results.csv_files import csv_lines, csv_rows

COMPLEXITY = CONFIG_DIR.parent / "results" / "complexity.csv"


def tier_tables(folder: Path) -> list[dict]:
    """Title, header and rows of each: of a csv file, or of the markdown file where there is no csv of that name."""
    files = {path.stem: path for pattern in ("table*.md", "table*.csv", "claims*.csv") for path in folder.glob(pattern)}
    return [_table(files[stem]) | {"tier": folder.name, "file": files[stem].name} for stem in sorted(files, key=_order)]


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


def _order(stem: str) -> tuple[str, bool]:
    """A table's verdicts after it."""
    return stem.removeprefix("table").removeprefix("claims"), stem.startswith("claims")


def _table(path: Path) -> dict:
    rows = csv_lines(path) if path.suffix == ".csv" else _markdown_lines(path)
    return {"title": _title(path), "header": rows[0] if rows else [], "rows": rows[1:]}


def _title(path: Path) -> str:
    """The markdown file's heading; verdicts have that of their table's."""
    text = path.with_name(path.name.replace("claims", "table")).with_suffix(".md")
    lines = text.read_text().splitlines() if text.exists() else []
    heading = next((line.lstrip("# ") for line in lines if line.startswith("#")), path.stem)
    return f"{heading}: what the paper claims" if path.stem.startswith("claims") else heading


def _markdown_lines(path: Path) -> list[list[str]]:
    """The cells of the first table in it."""
    lines = []
    for line in path.read_text().splitlines():
        if line.startswith("|"):
            lines.append([_plain(cell) for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])])
        elif lines:
            break
    return [line for line in lines if any(cell.strip("-: ") for cell in line)]


def _plain(cell: str) -> str:
    """A markdown cell's text, without emphasis and escapes."""
    return re.sub(r"\\([\\|\[])", r"\1", cell.strip(" `*")).replace("&lt;", "<")
