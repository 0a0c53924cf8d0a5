"""What each optimization of the C++ kernels gains: models with all optimizations and without one, interleaved in one run.

A variant is the C++ with one line changed. Each variant is compiled by itself and runs in its own process.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from tqdm import tqdm

from efficientconv.benchmark.subjects import Subject, model_subject
from efficientconv.engine.device import keep_freed_memory
from efficientconv.native import build
from efficientconv.results.table import Row
from efficientconv.roofline.peaks import Peaks
from efficientconv.timing import Quartiles, seconds

ALL = "all"
REST_S = 0.03  # between processes: until the threads of the process before have stopped spinning
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Optimization:
    """An optimization, and the line of the C++ that would leave it out."""

    about: str
    file: str
    line: str
    without: str


OPTIMIZATIONS = {
    "stem": Optimization(
        "in inference, first convolution, batch norm, ReLU and max pool in one pass", "stem_ops.h",
        "const bool fits = eager(tensors)", "const bool fits = false && eager(tensors)"),
    "pairs": Optimization(
        "steps that read two inputs, so that no part of a tile is idle", "plan.h",
        "std::min(a.size(), b.size())", "0 * std::min(a.size(), b.size())"),
    "eight": Optimization(
        "with AVX-512, tiles of eight outputs over connections, not of four", "plan.h",
        "kTileOutputs > kOutputs ? best_gap(connections, whole, inputs) : whole + 1", "whole + 1"),
    "dense": Optimization(
        "projections of all channels read their weights in place, and transpose their input for the gradient", "tensors.h",
        "if (t.full() && kernel == 1)", "if (false)"),
    "image_by_image": Optimization(
        "in training, a SIC layer's gradients in one pass over the images", "connected_layer.h",
        "return filters && images", "return false && images"),
    "small_work": Optimization(
        "if few vectors of pixels do not divide evenly, the threads share the outputs", "connections.h",
        "parts(round_up(vectors, threads) - vectors > vectors / 8 ? threads : 1)", "parts(1)"),
    "few_pixels": Optimization(
        "in projections of a few pixels, vectors hold inputs", "few_pixels.h",
        "return !plan.weight_at", "return false && !plan.weight_at"),
    "weights_ahead": Optimization(
        "the caches load the next weights while the processor multiplies these", "tile.h",
        "prefetch_weights(const float* p) { __builtin_prefetch(p); }", "prefetch_weights(const float*) {}"),
    "whole_bottleneck": Optimization(
        "in inference, the three convolutions of a bottleneck on a few images at a time", "spatial_layer.h",
        "if (x.size(0) < thread_count() ||", "if (true ||"),
    "help": Optimization(
        "a thread that has finished its share helps the others", "parallel.h", "for (int64_t i = 0; i < threads; ++i)",
        "for (int64_t i = 0; i < 1; ++i)"),
    "pool": Optimization(
        "the memory of freed results is kept for the next results", "pool.h", "if (bytes < kLeast)", "if (true)"),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What a process runs once each time it is asked."""

    layout: str
    batch: int
    kind: str
    model: str


def rows_of(case: Case, processes: dict[str, Connection], repeats: int, peaks: Peaks, bar: tqdm) -> list[Row]:
    """Measures all variants in turn: a row for each optimization that is left out. `bar` advances by a round.

    Times are of a batch. ratio: the time without the optimization over the time with all, of the same round.
    """
    times: dict[str, list[float]] = {name: [] for name in processes}
    for round_ in range(repeats + 1):
        for name, process in processes.items():
            time.sleep(REST_S)
            process.send(case)
            took = process.recv()
            if round_ > 0:  # the first round does not count
                times[name].append(took)
        bar.update(round_ > 0)
    with_all = times.pop(ALL)
    median = statistics.median(with_all)
    of_limit = peaks.of_limit(_subject(case).least_work(case.kind), median)
    rows: list[Row] = []
    for name, without in times.items():
        ratio = Quartiles.of([part / whole for part, whole in zip(without, with_all)])
        rows.append(asdict(case) | {
            "without": name, "seconds_with_all": median, **of_limit._asdict(),
            "ratio": ratio.median, "ratio_low": ratio.low, "ratio_high": ratio.high,
        })  # fmt: skip
    return rows


def _subject(case: Case) -> Subject:
    return model_subject(case.model, case.layout, case.batch, "native", CPU)


@contextmanager
def variants(names: Sequence[str], threads: int) -> Iterator[dict[str, Connection]]:
    """A process with ALL, and one without each of `names`. Each compiles its kernels first and answers a Case by seconds.

    Raises BuildError.
    """
    processes, context = {}, get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="kernels-") as folder:
        for name in (ALL, *names):
            sources = _sources(Path(folder) / name, OPTIMIZATIONS.get(name))
            processes[name], end = context.Pipe()
            context.Process(target=_serve, args=(end, sources, threads), daemon=True).start()
            if reason := processes[name].recv():
                raise build.BuildError(f"kernels without {name}: {reason}")
        try:
            yield processes
        finally:
            for process in processes.values():
                process.send(None)


def _sources(folder: Path, optimization: Optimization | None) -> Path:
    shutil.copytree(build.SOURCE_DIR, folder)
    if optimization:
        path = folder / optimization.file
        text = path.read_text()
        if text.count(optimization.line) != 1:
            raise build.BuildError(f"{optimization.file} does not have exactly one line `{optimization.line}`")
        path.write_text(text.replace(optimization.line, optimization.without))
    return folder


def _serve(orders: Connection, sources: Path, threads: int) -> None:
    build.SOURCE_DIR = sources
    torch.set_num_threads(threads)
    keep_freed_memory(CPU)
    error = build.failure()
    orders.send(str(error) if error else None)
    last = None
    while case := orders.recv():
        if case != last:
            last, job = case, _subject(case).job(case.kind, CPU)
            job()
        job()
        orders.send(seconds(job, CPU))
