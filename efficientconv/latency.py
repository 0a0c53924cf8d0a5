"""Measured time of networks: medians over interleaved repeats, so that what else the machine does meets all alike."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn

SLICE_SECONDS = 0.05  # of one measurement: long enough for the clock, short enough to interleave


@dataclass(frozen=True)
class Latency:
    """Of inference, a forward pass of `batch_size` images divided by it."""

    ms_per_image: float  # median over the repeats
    iqr_ms: float  # between the quartiles
    batch_size: int


@torch.inference_mode()
def measure_latency(
    models: dict[str, nn.Module], image_sizes: dict[str, int], *, batch_size: int, device: torch.device, repeats: int = 9
) -> dict[str, Latency]:
    """Each of `models` on images of its own size (3 x S x S), channels-last, in eval mode, fp32; torch's global random
    numbers are not touched."""
    inputs, noise = {}, torch.Generator().manual_seed(0)
    for name, model in models.items():
        model.eval().to(device, memory_format=torch.channels_last)
        images = torch.randn(batch_size, 3, image_sizes[name], image_sizes[name], generator=noise)
        inputs[name] = images.to(device, memory_format=torch.channels_last)
    passes = {name: max(1, int(SLICE_SECONDS / _seconds(models[name], inputs[name], 3))) for name in models}
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, model in models.items():
            times[name].append(_seconds(model, inputs[name], passes[name]) * 1000 / batch_size)
    return {name: _summary(values, batch_size) for name, values in times.items()}


def _seconds(model: nn.Module, images: torch.Tensor, passes: int) -> float:
    """Of one pass, after one that does not count."""
    model(images)
    if images.is_cuda:
        return _gpu_seconds(model, images, passes)
    start = time.perf_counter()
    for _ in range(passes):
        model(images)
    return (time.perf_counter() - start) / passes


def _gpu_seconds(model: nn.Module, images: torch.Tensor, passes: int) -> float:
    """Between two events on the device itself: without what the first launch and the last answer take."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(passes):
        model(images)
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / passes


def _summary(values: list[float], batch_size: int) -> Latency:
    quartiles = statistics.quantiles(values, n=4)
    return Latency(statistics.median(values), quartiles[2] - quartiles[0], batch_size)
