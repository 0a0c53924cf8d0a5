"""The paper's figures, read from results/paper/figures.csv, each with the mark of how sure it is (README.md)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from efficientconv.csv_files import csv_rows
from efficientconv.files import CONFIG_DIR

PAPER_DIR = CONFIG_DIR.parent / "results" / "paper"


@dataclass(frozen=True)
class PaperFigure:
    """One figure as the paper has it: `value` as printed, in `unit`; `tables` that print it, "text" for none."""

    tables: tuple[str, ...]
    row: str  # the model
    column: str
    value: str
    unit: str
    source: str
    note: str


@cache
def figures() -> tuple[PaperFigure, ...]:
    lines = csv_rows(PAPER_DIR / "figures.csv")
    return tuple(PaperFigure(tuple(line.pop("tables").split()), **line) for line in lines)


def figure(row: str, column: str) -> PaperFigure | None:
    """The paper's figure for a model; None if the paper has none."""
    return next((figure for figure in figures() if (figure.row, figure.column) == (row, column)), None)


def value(row: str, column: str) -> str:
    """The paper's figure as printed; empty if the paper has none."""
    found = figure(row, column)
    return found.value if found else ""
