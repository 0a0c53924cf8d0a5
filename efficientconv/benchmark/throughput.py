"""Images per second of several pipelines, interleaved, and the processor time of each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing import active_children

from tqdm import tqdm

from efficientconv.benchmark.pipelines import Epoch
from efficientconv.timing import Quartiles

CPU_CLOCK = 2  # a clock's number has this in its low bits and the process above them: clock_getcpuclockid(3) on Linux


@dataclass(frozen=True)
class Throughput:
    """The throughput of one pipeline with one number of workers."""

    images_per_s: Quartiles
    worker_us: float  # processor time of the workers for an image, in microseconds, median
    main_us: float  # the same for this process, which crops, flips and normalises if the workers do not


def measure_throughput(epochs: dict[tuple, Epoch], repeats: int, bar: tqdm) -> dict[tuple, Throughput]:
    """Runs each of `epochs` once in each of `repeats`, after a first run that does not count. `bar` advances by a run."""
    runs: dict[tuple, list[tuple[float, float, float]]] = {key: [] for key in epochs}
    for repeat in range(repeats + 1):
        for key, epoch in epochs.items():
            run = _timed(epoch)
            if repeat:
                runs[key].append(run)
            bar.update()
    return {key: _summary(values) for key, values in runs.items()}


def _timed(epoch: Epoch) -> tuple[float, float, float]:
    """(images/s, microseconds of the workers for an image, microseconds of this process for an image)."""
    start, worker_s, main_s = time.perf_counter(), _children_seconds(), time.process_time()
    images = epoch()
    seconds, worker_s, main_s = time.perf_counter() - start, _children_seconds() - worker_s, time.process_time() - main_s
    return images / seconds, 1e6 * worker_s / images, 1e6 * main_s / images


def _summary(runs: list[tuple[float, float, float]]) -> Throughput:
    rates, worker_us, main_us = map(list, zip(*runs))
    return Throughput(Quartiles.of(rates), Quartiles.of(worker_us).median, Quartiles.of(main_us).median)


def _children_seconds() -> float:
    """Processor time of all living worker processes. The clock counts nanoseconds; /proc/<pid>/stat counts 1/100 s."""
    return sum(time.clock_gettime(~child.pid << 3 | CPU_CLOCK) for child in active_children() if child.pid)
