"""Counts the MACs and parameters of every model, and checks the cost claims of the paper's abstracts.

    python scripts/complexity.py                                  all models; writes results/complexity.csv and claims.csv
    python scripts/complexity.py --layers c --layout cifar        model C layer by layer; writes nothing
    python scripts/complexity.py --budget 5.16e6 --layout cifar   the width at which each model has 5.16 million MACs

A MAC is one multiply-accumulate, 2 FLOPs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from checkout import ROOT
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    printed = parser.add_mutually_exclusive_group()
    printed.add_argument("--layers", metavar="MODEL", help="print the layers of this model; write nothing")
    printed.add_argument("--budget", type=float, metavar="MACS", help="print the width of each model; write nothing")
    parser.add_argument("--layout", choices=("imagenet", "cifar"), help="default: both; with --layers: imagenet")
    parser.add_argument("--output-dir", type=Path, default=ROOT / "results", help="folder of the files (default: results)")
    return parser.parse_args()


if __name__ == "__main__":
    leave_on_signals()
    parse_args()  # a mistake and --help are answered now: the imports take seconds

from efficientconv.arguments import require_writable
from efficientconv.config import ModelConfig
from efficientconv.models import LAYOUTS, list_models, model_config
from efficientconv.models.budget import fits
from efficientconv.results import complexity_table as table
from efficientconv.results.pages import write_files
from efficientconv.results.table import Table
from efficientconv.text import paragraph
from efficientconv.validation import validate

LEGEND = """\
1 MAC = one multiply-accumulate = 2 FLOPs. Costs are of one image, M = million. Convolutions and fully connected layers
are counted; biases, batch norm, ReLU, pooling and additions are not."""

COLUMNS = """\
stages' MACs: the layers of all stages without the 1x1 layers that change the channels. vs a: those MACs over model A's.
ideal: the same for projections only, as the paper has it. Marks: A the paper's abstracts and algorithms, S the
summary that this project was made from, C confirmed by arithmetic, M from memory of the paper, unchecked."""

CLAIMS = """\
claims of the abstracts: how many times fewer MACs than another network, with the MACs that are commonly quoted for that
network and with those counted in torchvision's"""


def main() -> None:
    args = parse_args()
    if args.layers is not None:
        print_layers(args.layers, args.layout or "imagenet")
    elif args.budget is not None:
        print_widths(args.budget, [args.layout] if args.layout else list(LAYOUTS))
    else:
        require_writable(args.output_dir)
        write_tables(args.output_dir, args.layout)


def print_layers(model: str, layout: str) -> None:
    size, cost = table.cost_in(layout, model)
    print(f"{paragraph(LEGEND)}\n\nmodel {model}, layout {layout}, {size} x {size} pixels\n{table.layer_table(cost).text()}")


def print_widths(budget: float, layouts: Sequence[str]) -> None:
    papers = [config for config in map(model_config, list_models()) if config.trunk != "torchvision"]
    print(paragraph(LEGEND))
    for layout in layouts:
        num_classes, size = LAYOUTS[layout]
        models = [validate(ModelConfig, {**config.model_dump(), "layout": layout, "macs": budget}) for config in papers]
        found = {model.name: fits(model, budget, num_classes, size) for model in models}
        print(f"\nlayout {layout}, {num_classes} classes, model.macs={budget:g}\n{table.width_table(found).text()}")


def write_tables(folder: Path, layout: str | None) -> None:
    costs = table.cost_rows()
    ratios = table.ratio_table(costs)
    print(paragraph(LEGEND), paragraph(COLUMNS), sep="\n")
    for name, (num_classes, _) in LAYOUTS.items():
        if layout in (None, name):
            rows = [row for row in costs if row["layout"] == name]
            print(f"\nlayout {name}, {num_classes} classes\n{Table(rows, table.COST_COLUMNS).text()}")
    print(f"\n{paragraph(CLAIMS)}\n{ratios.text()}\n")
    for path in write_files(folder, {"complexity.csv": Table.of(costs).csv(), "claims.csv": ratios.csv()}):
        print(f"wrote {path}")


if __name__ == "__main__":
    guarded(main)
