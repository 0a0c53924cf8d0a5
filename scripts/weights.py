"""Publishes trained weights in results/weights/<name>.

    python scripts/weights.py c_cifar10 outputs/cifar_small/c-*           chooses one run of several with different seeds
    python eval.py run=c_cifar10 data=cifar10_jpeg data.root=<folder>     gives the accuracy that card.json states

The chosen run is the folder whose accuracy is nearest to the mean of all. A run whose folder is elsewhere counts for the
mean if its record (results/<tier>/runs/<run>.json) is given. To use the weights in Python:
create_model("c", weights="c_cifar10") or load_run("c_cifar10").
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from checkout import ROOT
from efficientconv.arguments import file_name
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("name", type=file_name, metavar="NAME", help="name of the new folder")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run, or its record")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "weights", help="default: results/weights")
    return parser.parse_args()


if __name__ == "__main__":
    leave_on_signals()
    parse_args()  # a mistake and --help are answered now: the imports take seconds

from efficientconv.results.published import publish


def main() -> None:
    args = parse_args()
    card = publish(args.runs, args.folder / args.name)
    print(f"{json.dumps(card, indent=1)}\n{args.folder / args.name}")


if __name__ == "__main__":
    guarded(main)
