"""Writes a table and a plot of finished runs: accuracy against MACs, parameters and measured time.

    python scripts/table.py outputs/*                     prints the table; writes outputs/table.{md,csv,png,svg}
    python scripts/table.py RUN RUN --output results/x    writes results/x.{md,csv,png,svg}

A path is a run folder, a folder that contains run folders, or a folder of records (results/<tier>/runs). The command skips
runs that are not finished and files that cannot be read, and names them. A row of the table is a run; a point of the plot is
a configuration, with the mean of its runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import checkout  # noqa: F401  finds the package
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="PATH", help="run folder, or folder of runs or records")
    parser.add_argument("--output", type=Path, help="path of the files, without ending (default: table, beside the runs)")
    parser.add_argument("--title", help="title of the markdown file and of the plot")
    parser.add_argument("--note", action="append", default=[], help="paragraph before the table in the markdown file")
    return parser.parse_args()


if __name__ == "__main__":
    leave_on_signals()
    parse_args()  # a mistake and --help are answered now: the imports take seconds

from efficientconv.errors import UserError
from efficientconv.results.figures import FIGURES
from efficientconv.results.pages import page, write_files
from efficientconv.results.record import RunRecord
from efficientconv.results.report.sources import Sources, find_sources
from efficientconv.results.report.times import RunTimes
from efficientconv.results.run_table import TIMES, run_table, title_of
from efficientconv.text import listed, paragraph, printable

ENDINGS = (".md", ".csv", ".png", ".svg")


def main() -> None:
    args = parse_args()
    output = output_of(args.output, args.runs)
    sources = find_sources(args.runs)
    records = finished_runs(sources)
    table, title = run_table(records, RunTimes(sources)), args.title or title_of(records)
    print(f"{table.text()}\n\n{paragraph(TIMES)}\n", flush=True)
    from efficientconv.results.plot import plot, points_of  # here: nobody waits for matplotlib to read the table

    text = page(f"# {args.title}" if args.title else "", *args.note, table.markdown(), TIMES)
    files: dict[str, str | bytes] = {".md": text, ".csv": table.csv(), **plot(points_of(records), title, FIGURES["macs"])}
    written = write_files(output.parent, {output.name + ending: content for ending, content in files.items()})
    print(f"wrote {', '.join(map(str, written))}")


def finished_runs(sources: Sources) -> list[RunRecord]:
    """The finished runs. Names the runs that are skipped. Raises UserError if no run is finished."""
    for warning in sources.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    finished = [run.record for run in sources.runs if run.record.state == "done"]
    others = [f"{run.record.run} ({run.record.state})" for run in sources.runs if run.record.state != "done"]
    if not finished:
        raise UserError(f"none of these runs has a test result: {listed(others)}; the command that began a run continues it")
    if others:
        print(f"skipped, without a test result: {printable(listed(others))}", file=sys.stderr)
    return finished


def output_of(given: Path | None, paths: Sequence[Path]) -> Path:
    """The path of the files, without ending: as given, else beside the runs. Raises UserError for a folder."""
    if given is not None:
        if given.is_dir():  # its files would lie beside it, or have no name
            raise UserError(f"--output {given} is a folder; add the name of the files, as in {given / 'table'}")
        return given.with_suffix("") if given.suffix in ENDINGS else given
    inside = len(paths) == 1 and paths[0].is_dir() and not (paths[0] / "config.yaml").exists()
    return (paths[0] if inside else paths[0].parent) / "table"


if __name__ == "__main__":
    guarded(main)
