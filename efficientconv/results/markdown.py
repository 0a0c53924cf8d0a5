"""Tables as markdown, csv and plain text, from rows of named columns.

Cells hold what users and files are named. Wherever a table is opened, they stay text: no formula for a spreadsheet, no
control character for a terminal, no column, link or tag of their own in markdown.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from efficientconv.text import printable

Row = Mapping[str, object]  # every row has the same keys, in the same order

_FORMULA = re.compile("'*[=+@＝＋－＠-]")  # what a spreadsheet computes, or what was taken from it by an apostrophe
_TAKEN = re.compile(f"'{_FORMULA.pattern}")
_MARKDOWN = str.maketrans({"\\": r"\\", "|": r"\|", "[": r"\[", "<": "&lt;"})


def markdown_table(rows: Sequence[Row], padded: bool = False) -> str:
    """Columns that no row fills are left out. `padded`: columns stand under each other, for a terminal."""
    columns = [name for name in rows[0] if any(row[name] not in ("", None) for row in rows)]
    cells = [[_cell(name) for name in columns], *([_cell(row[name]) for name in columns] for row in rows)]
    widths = [max(map(len, column)) if padded else 0 for column in zip(*cells)]
    lines = [[cell.ljust(width) for cell, width in zip(line, widths)] for line in cells]
    lines.insert(1, ["-" * max(3, width) for width in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def text_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns under their names: numbers to the right, words to the left."""
    lines = [[printable(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    numeric = [all(_is_number(cell) for cell in column[1:]) for column in zip(*lines)]
    aligned = (
        "  ".join(c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric)) for line in lines
    )
    return "\n".join(line.rstrip() for line in aligned)


def csv_text(rows: Sequence[Row], header: bool = True) -> str:
    """An apostrophe goes before text that a spreadsheet would compute; csv_lines and csv_rows take it off again."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(map(_inert, line) for line in (*rows[:header], *(row.values() for row in rows)))
    return text.getvalue()


def csv_lines(path: Path) -> list[list[str]]:
    """All of its lines, the names of the columns first. Raises OSError, UnicodeDecodeError."""
    with open(path, newline="") as file:
        return [[cell[1:] if _TAKEN.match(cell) else cell for cell in line] for line in csv.reader(file)]


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Its lines by the names of the columns."""
    names, *lines = csv_lines(path) or [[]]
    return [dict(zip(names, line)) for line in lines]


def _cell(value: object) -> str:
    return "" if value is None else printable(str(value)).translate(_MARKDOWN)


def _inert(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if _FORMULA.match(text) and not _is_float(text) else text


def _is_number(cell: str) -> bool:
    return not cell.strip("0123456789.,/-")


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
