"""Writes one HTML file about many runs. Open the file in a browser; it needs no server, no network and no account.

    python scripts/report.py                                  outputs/ and results/*/runs, to report.html
    python scripts/report.py outputs/smoke results/cifar/runs --output x.html

A path is a run folder, a folder that contains run folders, or a folder of records (results/<tier>/runs). The report also
shows tables, times and kernels that lie beside such records. It marks unfinished and failed runs. Files that cannot be read
are named and left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import checkout  # noqa: F401  finds the package
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="default: outputs and results/*/runs")
    parser.add_argument("--output", type=Path, default=Path("report.html"), help="default: report.html")
    return parser.parse_args()


if __name__ == "__main__":
    leave_on_signals()
    parse_args()  # a mistake and --help are answered now: the imports take seconds

from efficientconv.errors import UserError
from efficientconv.files import write_atomically
from efficientconv.results.report.page import page
from efficientconv.results.report.sources import find_sources
from efficientconv.text import printable


def main() -> None:
    args = parse_args()
    if args.output.is_dir():
        raise UserError(f"--output {args.output} is a folder; add the name of the file, as in {args.output / 'report.html'}")
    paths = args.paths or [path for path in (Path("outputs"), *sorted(Path("results").glob("*/runs"))) if path.is_dir()]
    sources = find_sources(paths)
    text = page(sources, paths).encode()
    for warning in sources.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    try:
        write_atomically(args.output, text)
    except OSError as error:
        raise UserError(f"{args.output} cannot be written ({error.strerror}); choose another --output") from None
    print(f"{args.output}: {len(sources.runs)} runs, {len(text) / 1e6:.1f} MB; open it in a browser")


if __name__ == "__main__":
    guarded(main)
