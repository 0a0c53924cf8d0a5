"""Times of several jobs, interleaved, so that other load on the machine affects all jobs alike."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from tqdm import tqdm

Job = Callable[[], object]
Key = TypeVar("Key")  # the name of a job or of a network

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler prints two lines each time, to developers of torch
SLICE_SECONDS = 0.01


@dataclass(frozen=True)
class Quartiles:
    """Of the values of all repeats, seconds for example: the median, and the quartiles below and above it."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: list[float]) -> Quartiles:
        low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return Quartiles(median, low, high)


def measure(
    jobs: dict[Key, Job], repeats: int, device: torch.device, bar: tqdm | None = None, *, rest_s: float = 0,
    slice_s: float = SLICE_SECONDS,
) -> dict[Key, Quartiles]:  # fmt: skip
    """The seconds of one run of each job. Each of `repeats` rounds measures each job once. `bar` advances by a round.

    slice_s: seconds of a measurement, which runs a shorter job several times.
    rest_s: idle seconds before each job, then as many seconds of runs that do not count, for jobs of several programs. The
    threads of a program spin for a while after its last call, and take the processor from the next program. A processor
    that was idle is slow for some ten milliseconds.
    """
    passes = {}
    for name, job in jobs.items():
        job()  # builds and chooses what is built or chosen once
        passes[name] = _passes(job, device, slice_s)
    times: dict[Key, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            if rest_s:
                time.sleep(rest_s)
                _run_for(rest_s, job)
            times[name].append(_seconds(job, passes[name], device))
        if bar is not None:
            bar.update()
    return {name: Quartiles.of(values) for name, values in times.items()}


def _run_for(seconds: float, job: Job) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        job()


def seconds(job: Job, device: torch.device) -> float:
    """The seconds of one run, measured now."""
    return _seconds(job, _passes(job, device, SLICE_SECONDS), device)


def peak_bytes(job: Job, device: torch.device) -> int:
    """The most memory that the tensors of `job` take at a time. The scratch space of kernels is not counted."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        job()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        job()
    now = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def held_bytes(job: Job, device: torch.device) -> int | None:
    """The memory of the GPU that torch holds while `job` runs, with models, optimizers and the pools of CUDA graphs.

    None on a CPU, where torch does not count it.
    """
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    job()
    return torch.cuda.max_memory_reserved(device)


def _passes(job: Job, device: torch.device, slice_s: float) -> int:
    return max(1, int(slice_s / max(_seconds(job, 1, device), 1e-6)))


def _seconds(job: Job, passes: int, device: torch.device) -> float:
    """The seconds of one pass. On a GPU between two events: without the time of the first launch and of the last answer."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        _run(job, passes)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000 / passes
    begin = time.perf_counter()
    _run(job, passes)
    return (time.perf_counter() - begin) / passes


def _run(job: Job, passes: int) -> None:
    for _ in range(passes):
        job()
