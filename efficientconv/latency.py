"""Measured times of networks: medians over interleaved repeats, so that other load affects all networks alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

SLICE_SECONDS = 0.05  # length of one measurement: long enough for the clock, short enough to interleave


Pass = Callable[[], object]


@dataclass(frozen=True)
class Latency:
    """The time of a pass over `batch_size` images, divided by `batch_size`."""

    ms_per_image: float  # median over the repeats
    iqr_ms: float  # between the quartiles
    batch_size: int


def measure_latency(
    models: dict[str, nn.Module], image_sizes: dict[str, int], *, batch_size: int, device: torch.device, repeats: int = 9
) -> dict[str, Latency]:
    """Inference: a forward pass of each of `models` on images of its own size (3 x S x S), channels-last, in eval mode,
    fp32; torch's global random numbers are not touched."""
    images = _images(models, image_sizes, batch_size, device)
    passes: dict[str, Callable[[], object]] = {name: partial(model.eval(), images[name]) for name, model in models.items()}
    with torch.inference_mode():
        return _measure(passes, batch_size, device, repeats)


def measure_training(
    models: dict[str, nn.Module], image_sizes: dict[str, int], *, batch_size: int, device: torch.device, repeats: int = 9
) -> dict[str, Latency]:
    """A step of training: forward, loss, backward, SGD with momentum; channels-last, fp32. Leaves other weights behind."""
    images = _images(models, image_sizes, batch_size, device)
    labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
    optimizers = {name: torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9) for name, model in models.items()}

    def step(name: str) -> None:
        optimizers[name].zero_grad()
        cross_entropy(models[name](images[name]), labels).backward()
        optimizers[name].step()

    for model in models.values():
        model.train()
    return _measure({name: partial(step, name) for name in models}, batch_size, device, repeats)


def _images(models: dict[str, nn.Module], sizes: dict[str, int], batch_size: int, device: torch.device) -> dict[str, Tensor]:
    """Images for each network. Puts the networks on the device."""
    images, noise = {}, torch.Generator().manual_seed(0)
    for name, model in models.items():
        model.to(device, memory_format=torch.channels_last)
        made = torch.randn(batch_size, 3, sizes[name], sizes[name], generator=noise)
        images[name] = made.to(device, memory_format=torch.channels_last)
    return images


def _measure(passes: dict[str, Pass], batch_size: int, device: torch.device, repeats: int) -> dict[str, Latency]:
    often = {name: max(1, int(SLICE_SECONDS / _seconds(run, 3, device))) for name, run in passes.items()}
    times: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(repeats):
        for name, run in passes.items():
            times[name].append(_seconds(run, often[name], device) * 1000 / batch_size)
    return {name: _summary(values, batch_size) for name, values in times.items()}


def _seconds(run: Pass, times: int, device: torch.device) -> float:
    """The seconds of one pass, after a first pass that does not count."""
    run()
    if device.type == "cuda":
        return _gpu_seconds(run, times)
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def _gpu_seconds(run: Pass, times: int) -> float:
    """The seconds between two events on the device: without the time of the first launch and of the last answer."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / times


def _summary(values: list[float], batch_size: int) -> Latency:
    quartiles = statistics.quantiles(values, n=4)
    return Latency(statistics.median(values), quartiles[2] - quartiles[0], batch_size)
