"""csv that stays text in a spreadsheet and on a terminal: no formulas, no control characters. Our readers undo this."""

from __future__ import annotations

import csv
import errno
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex

from efficientconv.files import read_bytes
from efficientconv.text import printable

FLOAT_FORM = ".6g"

_FORMULA = re.compile("'*[=+@＝＋－＠-]")  # what a spreadsheet computes, or what was taken from it by an apostrophe
_TAKEN = re.compile(f"'{_FORMULA.pattern}")


def csv_text(lines: Iterable[Sequence[object]]) -> str:
    """The lines as csv. Text that a spreadsheet would compute gets an apostrophe, which csv_rows and read_rows remove."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(_inert, line) for line in lines)
    return text.getvalue()


def csv_rows(path: Path) -> list[dict[str, str]]:
    """The lines of the file, each by the names of the columns. Raises FileNotFoundError, UserError, UnicodeDecodeError."""
    content = read_bytes(path)
    if content is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return rows_in(content.decode())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """As csv_rows, but numbers are numbers, and an empty cell is None. For files whose texts never look like a number."""
    return typed(csv_rows(path))


def typed(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """The same rows as read_rows has them."""
    return [{name: _typed(cell) for name, cell in row.items()} for row in rows]


def rows_in(text: str) -> list[dict[str, str]]:
    """The lines of a csv text, as csv_rows."""
    lines = csv.reader(io.StringIO(text, newline=""))
    names, *rows = [[cell[1:] if _TAKEN.match(cell) else cell for cell in line] for line in lines] or [[]]
    return [dict(zip(names, row)) for row in rows]


def _inert(value: object) -> object:
    if isinstance(value, SupportsFloat) and not isinstance(value, SupportsIndex):  # float, also a mean with its spread
        return format(float(value), FLOAT_FORM)
    if isinstance(value, (list, tuple)):
        value = " ".join(map(str, value))
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if _FORMULA.match(text) and not isinstance(_typed(text), float) else text


def _typed(cell: str) -> object:
    """A number if the cell is one, None for an empty cell, else the text."""
    try:
        return (int if cell.isdigit() else float)(cell)
    except ValueError:
        return cell or None
