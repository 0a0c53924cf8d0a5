"""Makes the tables of README.md, docs/ and results/*/README.md and the pages of benchmarks anew from what lies in results/.

    python scripts/readme.py
"""

from __future__ import annotations

import argparse

import checkout  # noqa: F401  finds the package
from efficientconv.signals import leave_on_signals

if __name__ == "__main__":
    leave_on_signals()  # now: the imports take seconds

from efficientconv.benchmark.report import written_again
from efficientconv.engine.guard import guarded
from efficientconv.results.readme import RESULTS, pages, updated


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for path in pages():
        path.write_text(updated(path.read_text()))
    for path in sorted(RESULTS.glob("**/benchmark_*.csv")):
        written_again(path)


if __name__ == "__main__":
    guarded(main)
