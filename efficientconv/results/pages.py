"""Writes result pages: markdown from parts, and files that are written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from efficientconv.files import make_folder, refused_in_one_line, replacing
from efficientconv.info import git_state, short_commit
from efficientconv.results.table import Column, Row, Table, grouped


def page(*parts: str) -> str:
    """A page of paragraphs, headings and tables. Empty parts are left out."""
    return "\n\n".join(part for part in parts if part) + "\n"


def sections(rows: Sequence[Row], columns: Sequence[Column], heading: Callable[[Row], str]) -> list[str]:
    """A heading and a table for all rows with this heading."""
    groups = grouped(rows, heading)
    return [part for title, group in groups.items() for part in (f"## {title}", Table(group, columns).markdown())]


def made_by(command: str) -> str:
    """The line below a measurement: its command and the commit of the code."""
    return f"`{command}` at commit {short_commit(git_state())}"


def write_report(path: Path, rows: Sequence[Row], *parts: str) -> str:
    """Writes the rows into `path`.csv, and a page of `parts` into `path`.md. Returns the page."""
    text = page(*parts)
    write_files(path.parent, {f"{path.name}.csv": Table.of(rows).csv(), f"{path.name}.md": text})
    return text


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> list[Path]:
    """Writes files, which are given by name, into `folder`. Returns their paths. Raises UserError.

    No file is replaced before all are written, and csv files are replaced last: where a page cannot be replaced, its csv is
    the old one.
    """
    refused = refused_in_one_line(f"write {', '.join(files)} into {folder}", "make space, or choose another place")
    with refused, ExitStack() as replaced:
        make_folder(folder)
        for name in sorted(files, key=lambda name: not name.endswith(".csv")):  # the first to be opened is replaced last
            content, file = files[name], replaced.enter_context(replacing(folder / name))
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()  # a full disk is found here
    return [folder / name for name in files]
