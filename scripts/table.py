"""A table and a plot of finished runs: accuracy against MACs, parameters and measured time.

    python scripts/table.py outputs/*                                    prints, and writes outputs/table.{md,csv,png}
    python scripts/table.py RUN RUN --output results/x --summaries       writes results/x.{md,csv,png}, results/x/*.json

A path is a run folder, a folder that contains run folders, or one of records (results/<tier>/runs). Runs that are not
finished, and what cannot be read, are named and passed over. A row is a run; in the plot a point is a configuration.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import checkout  # noqa: F401  finds the package
from efficientconv.signals import leave_on_signals

if __name__ == "__main__":
    leave_on_signals()  # now: the imports take seconds

from efficientconv.engine.guard import guarded
from efficientconv.engine.precision import choose_device
from efficientconv.errors import UserError
from efficientconv.files import make_folder, refused_in_one_line, write_atomically
from efficientconv.results import run_table
from efficientconv.results.plot import MACS_LABEL, plot
from efficientconv.results.record import RunRecord
from efficientconv.results.report.sources import find_sources
from efficientconv.text import printable

NAMED = 5  # of the runs that are passed over
ENDINGS = (".md", ".csv", ".png")


def main() -> None:
    args = parse_args()
    output = output_of(args.output, args.runs)
    device = choose_device(args.device)
    records = finished_runs(args.runs)
    rows = run_table.run_rows(records, device)
    text = f"{run_table.markdown(rows)}\n\n{run_table.conditions(device)}\n"
    print(text)
    heading = [f"# {args.title}"] if args.title else []
    files = {
        ".md": "\n\n".join([*heading, *args.note, text]).encode(), ".csv": run_table.csv(rows).encode(),
        ".png": plot(run_table.points(records), args.title or run_table.title_of(rows), MACS_LABEL),
    }  # fmt: skip
    paths = {ending: output.with_name(output.name + ending) for ending in files}
    with refused_in_one_line(f"write {output}.*", "choose another --output"):
        make_folder(output.parent)
        for ending, content in files.items():
            write_atomically(paths[ending], content)
        if args.summaries:
            write_summaries(records, output)
    print(f"table: {paths['.md']}, {paths['.csv']}\nplot:  {paths['.png']}")


def finished_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """Raises UserError where none is finished; says which are passed over."""
    sources = find_sources(paths)
    for warning in sources.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    finished = [run.record for run in sources.runs if run.record.state == "done"]
    others = [f"{run.record.run} ({run.record.state})" for run in sources.runs if run.record.state != "done"]
    if not finished:
        raise UserError(f"none of these runs is finished: {listed(others)}; the command that began one continues it")
    if others:
        print(f"passed over, not finished: {printable(listed(others))}", file=sys.stderr)
    return finished


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def output_of(given: Path | None, paths: Sequence[Path]) -> Path:
    """The files' path, without ending: as given, else beside the runs."""
    if given is not None:
        return given.with_suffix("") if given.suffix in ENDINGS else given
    inside = len(paths) == 1 and paths[0].is_dir() and not (paths[0] / "config.yaml").exists()
    return (paths[0] if inside else paths[0].parent) / "table"


def write_summaries(records: Sequence[RunRecord], folder: Path) -> None:
    make_folder(folder)
    for record in records:
        write_atomically(folder / f"{record.run}.json", (json.dumps(record.summary, indent=2) + "\n").encode())


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="PATH", help="of runs, or of folders that contain them")
    parser.add_argument("--output", type=Path, help="path of the files, without ending (default: table, beside the runs)")
    parser.add_argument("--title", help="of the markdown file and of the plot")
    parser.add_argument("--note", action="append", default=[], help="paragraph before the table in the markdown file")
    parser.add_argument("--summaries", action="store_true", help="write each run's summary beside the table")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the time is measured")
    return parser.parse_args()


if __name__ == "__main__":
    guarded(main)
