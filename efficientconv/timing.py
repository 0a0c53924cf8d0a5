"""Times of several jobs, interleaved, so that other load on the machine affects all jobs alike."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm import tqdm

Job = Callable[[], object]

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler prints two lines each time, to developers of torch
SLICE_SECONDS = 0.01  # a measurement runs a shorter job several times


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


def measure(jobs: dict[str, Job], repeats: int, device: torch.device, bar: tqdm, rest_s: float = 0) -> dict[str, Quartiles]:
    """Runs each job once in each of `repeats` rounds, after a first run that does not count. `bar` advances by a round.

    rest_s: idle seconds before each job, then as many seconds of runs that do not count, for jobs of several programs. The
    threads of a program spin for a while after its last call, and take the processor from the next program. A processor
    that was idle is slow for some ten milliseconds.
    """
    passes = {}
    for name, job in jobs.items():
        job()  # builds and chooses what is built or chosen once
        passes[name] = _passes(job, device)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            if rest_s:
                time.sleep(rest_s)
                _run_for(rest_s, job)
            times[name].append(_seconds(job, passes[name], device))
        bar.update()
    return {name: Quartiles.of(values) for name, values in times.items()}


def _run_for(seconds: float, job: Job) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        job()


def seconds(job: Job, device: torch.device) -> float:
    """The seconds of one run, measured now."""
    return _seconds(job, _passes(job, device), device)


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


def _passes(job: Job, device: torch.device) -> int:
    return max(1, int(SLICE_SECONDS / max(_seconds(job, 1, device), 1e-6)))


def _seconds(job: Job, passes: int, device: torch.device) -> float:
    _synchronize(device)
    start = time.perf_counter()
    for _ in range(passes):
        job()
    _synchronize(device)
    return (time.perf_counter() - start) / passes


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
