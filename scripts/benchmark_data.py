"""How fast images become batches: torchvision's usual pipeline, this project's on folders and on a prepared set, the limit.

    python scripts/benchmark_data.py IMAGES        a folder of real photographs, IMAGES/<class>/*.JPEG; links are made to it

Writes data_throughput.csv and .md into results/. Close what else needs the processor first; with as many workers as cores,
the training process, which normalises the batches here, competes with them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from efficientconv.benchmark import pipelines, throughput_report  # noqa: E402
from efficientconv.benchmark.throughput import measure_throughput  # noqa: E402
from efficientconv.data.parallel import available_cores  # noqa: E402
from efficientconv.errors import UserError, exit_code  # noqa: E402


def main() -> None:
    args = parse_args()
    if not any(args.images.glob("*/*")):
        raise UserError(f"no images in '{args.images}': name a folder that holds <class>/*.JPEG")
    torch.set_num_threads(1)
    workers = args.workers or list(range(1, available_cores() + 1))
    with tempfile.TemporaryDirectory() as folder:
        folders, jpeg, raw = (Path(folder) / name for name in ("folders", "jpeg", "raw"))
        pipelines.lay_out(args.images, folders, args.count)
        for destination, encoding in ((jpeg, "jpeg"), (raw, "raw")):
            pipelines.prepare(folders, destination, encoding, available_cores())
        originals, prepared = pipelines.jpegs_of(folders), pipelines.jpegs_of(jpeg)
        epochs = {}
        for count in workers:
            epochs[pipelines.USUAL, count] = pipelines.usual(folders, count)
            epochs[pipelines.FOLDERS, count] = pipelines.ours(folders, count)
            epochs[pipelines.PREPARED, count] = pipelines.ours(jpeg, count)
            epochs[pipelines.RAW, count] = pipelines.ours(raw, count)
            epochs[pipelines.DECODE_FOLDERS, count] = pipelines.decode_alone(originals, count)
            epochs[pipelines.DECODE_PREPARED, count] = pipelines.decode_alone(prepared, count)
            epochs[pipelines.PREPARE, count] = pipelines.prepare_alone(folders, count)
        with tqdm(total=len(epochs) * (args.repeats + 1), desc="epochs", unit="epoch", disable=None) as bar:
            results = measure_throughput(epochs, args.repeats, bar)
    kb = {name: statistics.mean(map(len, originals)) / 1e3 for name, _ in epochs}
    kb |= dict.fromkeys((pipelines.PREPARED, pipelines.DECODE_PREPARED), statistics.mean(map(len, prepared)) / 1e3)
    kb[pipelines.RAW] = pipelines.SIZE**2 * 3 / 1e3
    images = f"{len(list(args.images.glob('*/*')))} photographs, {args.count} an epoch."
    rows = throughput_report.rows_of(results, kb)
    text = throughput_report.write(rows, images, args.repeats, args.output_dir / "data_throughput")
    print(f"{text}\nwrote {args.output_dir}/data_throughput.csv and .md")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, metavar="IMAGES")
    parser.add_argument("--count", type=int, default=640, help="images an epoch, the same over and over (default 640)")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved epochs of each (default 7)")
    parser.add_argument("--workers", type=int, nargs="+", help="numbers of workers (default: 1 to the number of cores)")
    parser.add_argument("--output-dir", type=Path, default=ROOT / "results")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(exit_code(main))
