"""Prepares ImageNet for training: decodes and resizes each image once, and stores all images in a few large files.

    python scripts/prepare_imagenet.py SOURCE DESTINATION
    python train.py data=imagenet data.root=DESTINATION model=c

SOURCE holds ILSVRC2012_img_train.tar or train/<class>/, and ILSVRC2012_img_val.tar or val/, with class folders or flat. An
archive or flat folder of val needs ILSVRC2012_devkit_t12.tar.gz beside it. Nothing is unpacked. After a kill, the same
command continues. Exit code 0: the set is complete. 2: one line names a mistake. 75: a signal stopped the command.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import checkout  # noqa: F401  finds the package
from efficientconv.arguments import positive
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder with the downloaded ImageNet")
    parser.add_argument("destination", type=Path, metavar="DESTINATION", help="folder for the prepared set")
    parser.add_argument("--size", type=positive, default=256, help="pixels, as data.resize_size (default: 256)")
    parser.add_argument(
        "--resize", choices=("both", "shorter"), default="both",
        help="sides that become SIZE, as data.resize_rule (default: both, the paper's recipe)",
    )  # fmt: skip
    parser.add_argument("--encoding", choices=("jpeg", "raw"), default="jpeg", help="raw is five times as large")
    parser.add_argument("--quality", type=int, choices=range(1, 101), metavar="1..100", default=95, help="default: 95")
    parser.add_argument("--workers", type=positive, help="processes (default: one for each core)")
    parser.add_argument("--subset", action="store_true", help="accept ImageNet with missing classes or images")
    parser.add_argument("--val-labels", type=Path, metavar="FILE", help="development kit, or a list of synsets, one a line")
    parser.add_argument("--images-per-file", type=positive, default=5000, help="default: 5000")
    return parser.parse_args()


if __name__ == "__main__":
    leave_on_signals(continues=True)
    parse_args()  # a mistake and --help are answered now: the imports take seconds

from efficientconv.data.parallel import available_cores
from efficientconv.data.prepared import Recipe
from efficientconv.preparation.build import build
from efficientconv.preparation.plan import Plan, estimated_bytes, is_done, require_space
from efficientconv.preparation.source import find_source


def main() -> None:
    args = parse_args()
    recipe = Recipe(args.size, args.resize, args.encoding, args.quality if args.encoding == "jpeg" else None)
    source = find_source(args.source, args.val_labels, args.subset)
    plan = Plan(source, args.destination, recipe, args.subset, args.images_per_file)
    counts = ", ".join(f"{len(items)} images of {part}" for part, items in source.parts.items())
    print(f"{args.source}: {len(source.classes)} classes, {counts}; {recipe}")
    if source.passed_over:
        print(source.passed_over, flush=True)
    if is_done(plan):
        print(f"{args.destination} is prepared already")
        return
    needed = estimated_bytes(plan)
    free = require_space(args.destination, needed)
    print(f"{args.destination}: about {needed / 1e9:.3g} GB in all, {free / 1e9:.3g} GB are free", flush=True)
    build(plan, args.workers or available_cores())
    print(f"prepared: python train.py data=imagenet data.root={args.destination}")


if __name__ == "__main__":
    guarded(main)
