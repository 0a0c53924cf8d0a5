"""Writes the tables in README.md, docs/ and results/*/README.md, and the benchmark pages, from the data in results/.

    python scripts/readme.py

A test compares the pages with what this command would write.
"""

from __future__ import annotations

import checkout  # noqa: F401  finds the package
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals

if __name__ == "__main__":
    leave_on_signals()
    parser_for(__doc__).parse_args()  # a mistake and --help are answered now: the imports take seconds

from efficientconv.benchmark.report import written_again
from efficientconv.results.readme import RESULTS, pages, updated


def main() -> None:
    parser_for(__doc__).parse_args()
    for path in pages():
        path.write_text(updated(path.read_text()))
    written_again(RESULTS)


if __name__ == "__main__":
    guarded(main)
