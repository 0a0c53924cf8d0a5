"""One table for every reader: text for a terminal, markdown, csv and HTML, from the same rows and columns.

    table = Table(runs, [Column("model", name="model"), FIGURES["macs"].column(), Column("run", lambda run: run.path.name)])
    print(table.text()), table.markdown(), table.csv(), table.html()
    Table.of([{"model": "c", "seeds": 3}]).text()

Cells hold names from users and files. In every format a cell stays text: no formula in a spreadsheet, no control character
in a terminal, no new column, link or tag.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, SupportsFloat, TypeVar

from efficientconv.csv_files import csv_text
from efficientconv.text import printable

UNLIMITED, GAP = 100_000, 2  # characters
Row = Mapping[str, Any]  # a line of a csv file, by the names of the columns
K = TypeVar("K")
T = TypeVar("T")
_MARKDOWN = str.maketrans({"\\": r"\\", "|": r"\|", "[": r"\[", "<": "&lt;"})


@dataclass(frozen=True)
class Column:
    """One column of a table. `title` is its head for people, `name` its head in csv files; without one it is left out there.

    value: takes the value out of a row, or names it: a key, or an attribute such as "run.model". By default it has the name
        of the csv column, else the title. None is an empty cell. In csv the items of a list or tuple are joined by spaces.
    show: the format for people: a format such as ".2f" for numbers, or a function.
    better: which value `Table.best` marks.
    """

    title: str | None
    value: Callable[..., object] | str | None = None
    show: str | Callable[[Any], str] = ""
    name: str | None = None
    better: Literal["higher", "lower"] | None = None

    def of(self, row: Any) -> Any:
        """The value of a row. A key that the row lacks is an empty cell."""
        if callable(self.value):
            return self.value(row)
        name = self.value or self.name or self.title or ""
        return row.get(name) if isinstance(row, Mapping) else attrgetter(name)(row)

    def cell(self, row: object) -> str:
        value = self.of(row)
        if value is None:
            return ""
        if callable(self.show):
            return printable(self.show(value))
        return printable(value if isinstance(value, str) else format(value, self.show))


@dataclass(frozen=True)
class Table:
    """A table. `best`: marks the best cell of every column with `better`. A column without any value is not shown."""

    rows: Sequence[Any]
    columns: Sequence[Column]
    best: bool = False

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Table:
        """A table of rows with the same keys. Each key is the title and the name of a column."""
        return cls(rows, [Column(key, name=key) for key in (rows[0] if rows else ())])

    def text(self) -> str:
        """The table for printing, as wide as the terminal, else as needed. Numbers are right-aligned; no word is broken."""
        from rich import table  # here: to import it takes 0.1 s
        from rich.console import Console
        from rich.text import Text

        console, laid_out = Console(highlight=False), table.Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        titles, *lines = self._lines(str, "* {}")
        widths = _widths(list(zip(titles, *lines)), console.width if console.is_terminal else UNLIMITED)
        console.width = UNLIMITED  # the terminal breaks a line that is still too wide
        for title, column, width in zip(titles, self._shown(), widths):
            right = all(isinstance(value, SupportsFloat) for value in self._values(column))
            laid_out.add_column(Text(title), justify="right" if right else "left", width=width)
        for line in lines:
            laid_out.add_row(*map(Text, line))
        with console.capture() as captured:
            console.print(laid_out)
        return "\n".join(line.rstrip() for line in captured.get().splitlines())

    def markdown(self) -> str:
        lines = self._lines(lambda cell: cell.translate(_MARKDOWN), "**{}**")
        lines.insert(1, ["---"] * len(lines[0]))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def csv(self, header: bool = True) -> str:
        """The table as csv. Floats have six digits; strings and whole numbers do not change."""
        named = [column for column in self.columns if column.name is not None]
        names = [[column.name for column in named]] if header else []
        return csv_text([*names, *([column.of(row) for column in named] for row in self.rows)])

    def html(self) -> str:
        """The table as a <table>. The best cells are <strong>. `data-value` is the number of a cell, to sort by."""
        head, *lines = self._lines(html.escape, "<strong>{}</strong>")
        tags = [[_tag(column.of(row)) for column in self._shown()] for row in self.rows]
        cells = ("".join(f"{tag}{cell}</td>" for tag, cell in zip(*line)) for line in zip(tags, lines))
        rows = "\n".join(f"<tr>{of_row}</tr>" for of_row in cells)
        return f"<table>\n<thead><tr><th>{'</th><th>'.join(head)}</th></tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"

    def _shown(self) -> list[Column]:
        titled = [column for column in self.columns if column.title is not None]
        return [column for column in titled if any(column.cell(row) for row in self.rows)] if self.rows else titled

    def _lines(self, escape: Callable[[str], str], mark: str) -> list[list[str]]:
        """The titles, then the cells of each row."""
        shown = [(column, self._best(column)) for column in self._shown()]
        lines = [[escape(printable(column.title or "")) for column, _ in shown]]
        for row in self.rows:
            marks = ["{}" if best is None or column.of(row) != best else mark for column, best in shown]
            lines.append([form.format(escape(column.cell(row))) for form, (column, _) in zip(marks, shown)])
        return lines

    def _values(self, column: Column) -> list[Any]:
        return [value for value in map(column.of, self.rows) if value is not None]

    def _best(self, column: Column) -> object:
        """The best value of a column, compared as numbers; None if there is none, or if all values are equal."""
        values = self._values(column) if self.best and column.better else []
        if len(set(map(float, values))) < 2:
            return None
        return (max if column.better == "higher" else min)(values, key=float)


def grouped(rows: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The rows by key, in the order in which the keys first appear."""
    groups: dict[K, list[T]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _tag(value: object) -> str:
    return f'<td data-value="{float(value)!r}">' if isinstance(value, SupportsFloat) else "<td>"


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """The width of each column, of at least its longest word. The title is the first cell of a column."""
    widths = [max(map(len, cells)) for cells in columns]
    words = [max(len(word) for cell in cells for word in [*cell.split(), ""]) for cells in columns]
    while sum(widths) + GAP * (len(widths) - 1) > room and widths != words:
        widest = max(range(len(widths)), key=lambda n: (widths[n] > words[n], widths[n]))
        widths[widest] -= 1
    return widths
