"""Measures the time of layers and models, and compares the speed-up with the saving in MACs.

    python scripts/benchmark.py layers                     each layer at the shapes of both layouts, batch 1 and 16
    python scripts/benchmark.py models --layout imagenet   models A to O, compared with A
    python scripts/benchmark.py models --layout cifar --width 0.25 --batch 64 --threads 1    as tier cifar_small trains
    python scripts/benchmark.py peers --models acfikm      inference, compared with plain PyTorch, ONNX Runtime and OpenVINO
    python scripts/benchmark.py kernels --models cfkm      models with and without each optimization of the C++ kernels
    python scripts/benchmark.py layers --backend reference --output-dir outputs    layers in plain PyTorch; files in outputs/

The command writes benchmark_<what>.csv and .md into results/; layers and models also get pictures. First close other
programs that use the processor.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from functools import partial
from pathlib import Path

from checkout import ROOT
from efficientconv.arguments import positive
from efficientconv.benchmark import FORMATS, MODELS, PASSES, SHAPES
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals

# options that a benchmark does not use: its page would state them beside figures that they have not changed
UNUSED = {
    "layers": ("models", "width"), "models": (), "peers": ("device", "backend", "precision", "passes", "width"),
    "kernels": ("device", "backend", "precision", "width"),
}  # fmt: skip


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("what", choices=("layers", "models", "peers", "kernels"), help="the benchmark: see the examples")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto, a GPU if any")
    parser.add_argument("--threads", type=positive, help="threads of the CPU (default: PyTorch's choice)")
    parser.add_argument("--repeats", type=positive, default=15, help="interleaved repeats of each measurement (default: 15)")
    parser.add_argument("--backend", default="auto", help="code of the layers: auto (default), reference, native or triton")
    parser.add_argument("--precision", choices=tuple(FORMATS), default="fp32", help="default: fp32")
    parser.add_argument("--layout", choices=tuple(SHAPES), action="append", help="shapes of the network (default: both)")
    parser.add_argument("--batch", type=positive, action="append", help="images of a batch (default: 1 and 16)")
    parser.add_argument("--passes", choices=PASSES, action="append", help="default: both; training is forward and backward")
    parser.add_argument("--models", type=letters, default=MODELS, help=f"letters of the models (default: {MODELS})")
    parser.add_argument("--width", type=float, default=1.0, help="factor of the models' channels (default: 1)")
    parser.add_argument("--output-dir", type=Path, default=ROOT / "results", help="folder of the files (default: results)")
    args = parser.parse_args()
    for option in ("layout", "batch", "passes"):
        setattr(args, option, [*dict.fromkeys(getattr(args, option) or ())] or None)  # each once: means count each place
    for option in UNUSED[args.what]:
        if getattr(args, option) != parser.get_default(option):
            parser.error(f"--{option} has no effect on {args.what}; leave it out")
    return args


def letters(text: str) -> str:
    """The letters of models, each once. Raises ArgumentTypeError."""
    if not text:
        raise argparse.ArgumentTypeError(f"give letters of models, for example {MODELS[:3]}")
    return "".join(dict.fromkeys(text))


if __name__ == "__main__":
    leave_on_signals()
    parse_args()  # a mistake and --help are answered now: the imports take seconds

import torch
from tqdm import tqdm

from efficientconv.arguments import require_writable
from efficientconv.benchmark import ablation, ablation_report, peers, peers_report, report, subjects
from efficientconv.engine.device import choose_device, keep_freed_memory
from efficientconv.errors import UserError
from efficientconv.models import model_config
from efficientconv.native.cache import BuildError
from efficientconv.results.pages import made_by
from efficientconv.results.table import Row
from efficientconv.roofline.peaks import Peaks, measured_peaks
from efficientconv.timing import measure, peak_bytes


def main() -> None:
    args = parse_args()
    require_writable(args.output_dir)
    for name in args.models:
        model_config(name)  # refuses an unknown one now, before minutes of compiling and measuring
    torch.set_num_threads(args.threads or torch.get_num_threads())
    if args.what == "peers":
        run_peers(args)
    elif args.what == "kernels":
        run_kernels(args)
    else:
        run(args, choose_device(args.device))


def run(args: argparse.Namespace, device: torch.device) -> None:
    kinds, rows = args.passes or list(PASSES), []
    todo = places(args)
    with progress(args, 1 + len(todo) * len(kinds)) as bar:
        peaks = measured_peaks(args.repeats, device, bar, args.precision)
        for layout, stage, batch in todo:
            if args.what == "layers":
                chosen = subjects.layer_subjects(layout, stage, batch, args.backend, device, args.precision)
            else:
                names = dict.fromkeys("a" + args.models)
                model = partial(subjects.model_subject, layout=layout, batch=batch, backend=args.backend, device=device)
                chosen = [model(name, precision=args.precision, width=args.width) for name in names]
            for kind in kinds:
                rows += rows_of(chosen, layout, kind, peaks, args.repeats, device, bar)
    title = f"{args.what.capitalize()} against {'the standard layer' if args.what == 'layers' else 'model A'}"
    title += "" if args.width == 1 else f", width {args.width:g}"
    about = report.conditions(peaks, device, args.repeats, args.precision)
    text = report.write(rows, args.output_dir / f"benchmark_{args.what}", title, about, made_by(command()))
    print(f"{text}\nwrote {args.output_dir}/benchmark_{args.what}.csv, .md, .png and .svg")


def run_peers(args: argparse.Namespace) -> None:
    """On the CPU, with the memory settings of train.py and eval.py."""
    if missing := peers.missing():
        print(f"without {' and '.join(missing)}: pip install onnx onnxscript onnxruntime openvino", file=sys.stderr)
    device, names, rows = torch.device("cpu"), [*dict.fromkeys("a" + args.models)], []
    keep_freed_memory(device)
    todo = places(args)
    with progress(args, 1 + len(todo)) as bar:
        peaks = measured_peaks(args.repeats, device, bar)
        for layout, _, batch in todo:
            rows += peers.rows_of(names, layout, batch, args.repeats, peaks, bar)
    text = peers_report.write(rows, args.output_dir, peaks, args.repeats, made_by(command()))
    print(f"{text}\nwrote {args.output_dir}/benchmark_peers.csv and .md")


def run_kernels(args: argparse.Namespace) -> None:
    """On the CPU, as peers."""
    cases = [
        ablation.Case(layout, batch, kind, model)
        for layout, _, batch in places(args) for kind in args.passes or PASSES for model in args.models
    ]  # fmt: skip
    rows: list[Row] = []
    try:
        names = list(ablation.OPTIMIZATIONS)
        with ablation.variants(names, torch.get_num_threads()) as found, progress(args, 1 + len(cases)) as bar:
            peaks = measured_peaks(args.repeats, ablation.CPU, bar)
            for case in cases:
                rows += ablation.rows_of(case, found, args.repeats, peaks, bar)
    except BuildError as error:
        raise UserError(str(error)) from None
    text = ablation_report.write(rows, args.output_dir, peaks, args.repeats, made_by(command()))
    print(f"{text}\nwrote {args.output_dir}/benchmark_kernels.csv and .md")


def progress(args: argparse.Namespace, groups: int) -> tqdm:
    return tqdm(total=groups * args.repeats, desc=args.what, unit="round", disable=None)


# variables that limit the processor's instructions, and that make the C library keep freed memory
TELLING = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def command() -> str:
    """The command as typed, with the environment variables that change the times."""
    settings = [f"{name}={os.environ[name]}" for name in TELLING if name in os.environ]
    return shlex.join([*settings, "python", "scripts/benchmark.py", *sys.argv[1:]])


def places(args: argparse.Namespace) -> list[tuple[str, str, int]]:
    """The places as (layout, stage, batch). A model has no stage."""
    result = []
    for layout in args.layout or SHAPES:
        stages = [name for name, _, _ in SHAPES[layout]] if args.what == "layers" else [""]
        result += [(layout, stage, batch) for stage in stages for batch in args.batch or [1, 16]]
    return result


def rows_of(
    chosen: list[subjects.Subject], layout: str, kind: str, peaks: Peaks, repeats: int, device: torch.device, bar: tqdm
) -> list[Row]:
    """A row for each subject in one place. All are compared with the first. MACs are of an image, times of a batch.

    gain: in time; ideal_gain: in MACs. peak_mb: memory of tensors, without the kernels' scratch space.
    """
    jobs = {subject.name: subject.job(kind, device) for subject in chosen}
    memory = {name: peak_bytes(job, device) / 2**20 for name, job in jobs.items()}
    times = measure(jobs, repeats, device, bar)
    first = chosen[0]
    rows: list[Row] = []
    for s in chosen:
        time = times[s.name]
        ideal, gain = first.macs / s.macs, times[first.name].median / first.layers / (time.median / s.layers)
        ms = [1000 * t / s.layers for t in (time.median, time.low, time.high)]
        place = " x ".join(map(str, s.shape[1:]))
        rows.append({
            "layout": layout, "place": place, "batch": s.shape[0], "kind": kind, "name": s.name, "macs": s.macs,
            **dict(zip(("ms", "ms_low", "ms_high"), ms)), "ideal_gain": ideal, "gain": gain, "share": gain / ideal,
            "peak_mb": memory[s.name], **peaks.of_limit(s.least_work(kind), time.median)._asdict(),
        })  # fmt: skip
    return rows


if __name__ == "__main__":
    guarded(main)
