"""A table and a plot of finished runs: accuracy against MACs, parameters and measured time.

    python scripts/table.py outputs/*                                    prints, and writes outputs/table.{md,csv,png}
    python scripts/table.py RUN RUN --output results/x --summaries       writes results/x.{md,csv,png}, results/x/*.json
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from efficientconv.signals import leave_on_signals  # noqa: E402

if __name__ == "__main__":
    leave_on_signals()  # now: the imports take seconds

from efficientconv.engine.guard import guarded  # noqa: E402
from efficientconv.engine.precision import choose_device  # noqa: E402
from efficientconv.results.plot import MACS_LABEL, Point, plot_accuracy  # noqa: E402
from efficientconv.results.run_table import conditions, markdown, run_rows, title_of, write_csv  # noqa: E402


def main() -> None:
    args = parse_args()
    device = choose_device(args.device)
    rows = run_rows(args.runs, device)
    output = args.output or args.runs[0].parent / "table"
    output.parent.mkdir(parents=True, exist_ok=True)
    text = f"{markdown(rows)}\n\n{conditions(device)}\n"
    print(text)
    heading = [f"# {args.title}"] if args.title else []
    output.with_suffix(".md").write_text("\n\n".join([*heading, *args.note, text]))
    write_csv(output.with_suffix(".csv"), rows)
    points = [Point(row.model, row.macs / 1e6, row.top1_percent) for row in rows]
    plot_accuracy(points, output.with_suffix(".png"), args.title or title_of(rows), MACS_LABEL)
    if args.summaries:
        copy_summaries(args.runs, output)
    print(f"table: {output}.md, {output}.csv\nplot:  {output}.png")


def copy_summaries(runs: list[Path], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for run in runs:
        shutil.copy(run / "summary.json", folder / f"{run.name}.json")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--output", type=Path, help="path of the files, without ending (default: table, beside the runs)")
    parser.add_argument("--title", help="of the markdown file and of the plot")
    parser.add_argument("--note", action="append", default=[], help="paragraph before the table in the markdown file")
    parser.add_argument("--summaries", action="store_true", help="copy each run's summary.json beside the table")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the time is measured")
    return parser.parse_args()


if __name__ == "__main__":
    guarded(main)
