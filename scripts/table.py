"""A table and a plot of finished runs: accuracy against MACs, parameters and measured time.

    python scripts/table.py outputs/*                                    prints, and writes outputs/table.{md,csv,png}
    python scripts/table.py RUN RUN --output results/cifar_jpeg          writes results/cifar_jpeg.{md,csv,png}
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from efficientconv.engine.precision import choose_device  # noqa: E402
from efficientconv.errors import UserError  # noqa: E402
from efficientconv.results.plot import plot_accuracy_against_macs  # noqa: E402
from efficientconv.results.run_table import conditions, markdown, run_rows, write_csv  # noqa: E402


def main() -> int:
    args = parse_args()
    try:
        device = choose_device(args.device)
        rows = run_rows(args.runs, device)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    output = args.output or args.runs[0].parent / "table"
    output.parent.mkdir(parents=True, exist_ok=True)
    text = f"{markdown(rows)}\n\n{conditions(device)}\n"
    print(text)
    output.with_suffix(".md").write_text(f"# {args.title}\n\n{text}" if args.title else text)
    write_csv(output.with_suffix(".csv"), rows)
    plot_accuracy_against_macs(rows, output.with_suffix(".png"))
    print(f"table: {output}.md, {output}.csv\nplot:  {output}.png")
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--output", type=Path, help="path of the files, without ending (default: table, beside the runs)")
    parser.add_argument("--title", help="first line of the markdown file")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the time is measured")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
