"""Tables as markdown and csv, from rows of named columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = Mapping[str, object]  # every row has the same keys, in the same order


def markdown_table(rows: Sequence[Row]) -> str:
    """Columns that no row fills are left out."""
    columns = [name for name in rows[0] if any(row[name] not in ("", None) for row in rows)]
    lines = [columns, ["---"] * len(columns), *([_cell(row[name]) for name in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def csv_text(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def csv_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", r"\|")
