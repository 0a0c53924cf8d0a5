"""Measures how many images per second a data pipeline reads, decodes and puts into batches.

    python scripts/benchmark_data.py IMAGES                a folder of photographs, IMAGES/<class>/*.JPEG
    python scripts/benchmark_data.py IMAGES --workers 2    with one and with two workers

The pipelines are torchvision's, this project's on class folders and on a prepared set, and decoding alone (the limit). The
command writes data_throughput.csv and .md into results/. First close other programs that use the processor. With as many
workers as cores, the training process, which normalises the batches, competes with the workers.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from checkout import ROOT
from efficientconv.arguments import positive
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals

MOST_WORKERS = 1024  # of data.workers


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder with a folder of photographs for each class")
    parser.add_argument("--count", type=positive, default=640, help="images of an epoch, always the same (default: 640)")
    parser.add_argument("--repeats", type=positive, default=7, help="epochs of each pipeline, interleaved (default: 7)")
    parser.add_argument("--workers", type=positive, nargs="+", help="how many, beside 1 (default: to the number of cores)")
    parser.add_argument("--output-dir", type=Path, default=ROOT / "results", help="folder of the files (default: results)")
    args = parser.parse_args()
    if max(args.workers or [1]) > MOST_WORKERS:
        parser.error(f"argument --workers: give at most {MOST_WORKERS}")
    return args


if __name__ == "__main__":
    leave_on_signals()
    parse_args()  # a mistake and --help are answered now: the imports take seconds

import torch
from tqdm import tqdm

from efficientconv.arguments import require_writable
from efficientconv.benchmark import pipelines, throughput_report
from efficientconv.benchmark.throughput import measure_throughput
from efficientconv.data.parallel import available_cores
from efficientconv.errors import UserError
from efficientconv.results.data_tables import DECODE_FOLDERS, DECODE_PREPARED, FOLDERS, PREPARE, PREPARED, RAW, USUAL
from efficientconv.results.pages import made_by
from efficientconv.system import can_fork


def main() -> None:
    args = parse_args()
    if not can_fork():
        raise UserError("this system cannot fork the workers, whose processor time is measured: run this on Linux")
    require_writable(args.output_dir)
    if args.count < pipelines.BATCH:
        raise UserError(f"--count {args.count} is less than a batch of {pipelines.BATCH} images: give more")
    photographs = pipelines.photographs(args.images)
    if not photographs:
        raise UserError(f"no images in '{args.images}': name a folder that holds <class>/*.JPEG")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        epochs, kb = ready(args, photographs, Path(folder))
        with tqdm(total=len(epochs) * (args.repeats + 1), desc="epochs", unit="epoch", disable=None) as bar:
            results = measure_throughput(epochs, args.repeats, bar)
    images = f"{len(photographs)} photographs, {args.count} an epoch."
    rows = throughput_report.rows_of(results, kb)
    text = throughput_report.write(rows, images, args.repeats, args.output_dir / "data_throughput", made_by(command(args)))
    print(f"{text}\nwrote {args.output_dir}/data_throughput.csv and .md")


def command(args: argparse.Namespace) -> str:
    """The command as typed, but for the name of the folder."""
    words = ["<folder>" if Path(os.path.expanduser(word)) == args.images else shlex.quote(word) for word in sys.argv[1:]]
    return " ".join(["python", "scripts/benchmark_data.py", *words])


def ready(
    args: argparse.Namespace, photographs: list[Path], folder: Path
) -> tuple[dict[tuple, pipelines.Epoch], dict[str, float]]:
    """(each pipeline by its name and number of workers, kB read for an image by its name)."""
    folders, jpeg, raw = (folder / name for name in ("folders", "jpeg", "raw"))
    pipelines.lay_out(photographs, folders, args.count)
    for destination, encoding in ((jpeg, "jpeg"), (raw, "raw")):
        pipelines.prepare(folders, destination, encoding, available_cores())
    originals, prepared = pipelines.jpegs_of(folders), pipelines.jpegs_of(jpeg)
    kb_original, kb_prepared = (statistics.mean(map(len, contents)) / 1e3 for contents in (originals, prepared))
    make = {
        USUAL: (partial(pipelines.usual, folders), kb_original),
        FOLDERS: (partial(pipelines.ours, folders), kb_original),
        PREPARED: (partial(pipelines.ours, jpeg), kb_prepared),
        RAW: (partial(pipelines.ours, raw), pipelines.SIZE**2 * 3 / 1e3),
        DECODE_FOLDERS: (partial(pipelines.decode_alone, originals), kb_original),
        DECODE_PREPARED: (partial(pipelines.decode_alone, prepared), kb_prepared),
        PREPARE: (partial(pipelines.prepare_alone, folders), kb_original),
    }
    workers = sorted({1, *(args.workers or range(2, available_cores() + 1))})  # the targets are those of one worker
    epochs = {(name, count): start(count) for count in workers for name, (start, _) in make.items()}
    return epochs, {name: kb for name, (_, kb) in make.items()}


if __name__ == "__main__":
    guarded(main)
