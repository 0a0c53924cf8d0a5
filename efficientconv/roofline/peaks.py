"""The peaks of the machine, measured in the same run as the benchmark: PyTorch's own arithmetic, and memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from efficientconv.latency import Latency
from efficientconv.roofline.execution import least
from efficientconv.roofline.limit import limit
from efficientconv.roofline.machine import Machine
from efficientconv.roofline.step import step_of
from efficientconv.roofline.work import Work
from efficientconv.timing import Job, measure

TRIAD = 2**25  # numbers of an array: three of 128 MB, far more than caches hold
# for the peaks beside one time: images of the convolution, and numbers of an array, three of 32 MB
QUICK_REPEATS, QUICK_IMAGES, QUICK_TRIAD = 3, 4, 2**23
IMAGES_ON_GPU = 256  # 98 GFLOP, a tenth of a millisecond on the fastest GPUs; 4 images would take as long as their launch
PRECISION = "fp32"
OF_LIMIT = """\
Of limit: the least time that these peaks allow, divided by the measured time, and what sets the least time. Arithmetic: all
connections are multiplied. Memory: each layer reads and writes its maps and weights once. Data in the caches does not wait
for memory, so that a share may be above 1."""


class OfLimit(NamedTuple):
    """`limit_share`: the least time at the peaks over the measured time; `binds`: the limit, arithmetic or memory."""

    limit_share: float
    binds: str

    def __str__(self) -> str:
        return f"{self.limit_share:.2f} {self.binds}"


@dataclass(frozen=True)
class Peaks:
    """The rates of the machine. `flops`: FLOP/s of each product that was measured."""

    flops: dict[str, float]
    bytes_per_s: float

    def of_limit(self, work: Work, seconds: float) -> OfLimit:
        """The share of the limit that the measured `seconds` of `work` reach."""
        most = self.flops_per_s
        time = limit([work], Machine("measured", {PRECISION: most}, most, self.bytes_per_s), PRECISION)
        return OfLimit(time.seconds / seconds, time.binds)

    @property
    def flops_per_s(self) -> float:
        return max(self.flops.values())

    @property
    def about(self) -> str:
        flops = "; ".join(f"{name} {rate / 1e9:.0f}" for name, rate in self.flops.items())
        return f"Peaks measured in this run: GFLOP/s (2 a MAC) {flops}; memory, triad, {self.bytes_per_s / 1e9:.1f} GB/s."


def measured_peaks(repeats: int, device: torch.device, bar: tqdm, precision: str = "fp32") -> Peaks:
    """The peaks in float32, and in bfloat16 if `precision` is a half precision. No machine is faster in float16.

    `bar` advances by `repeats`.
    """
    types = [torch.float32] if precision == "fp32" else [torch.float32, torch.bfloat16]
    jobs = {name: job for dtype in types for name, job in _products(device, dtype).items()}
    times = measure({name: job for name, (job, _) in jobs.items()} | {"triad": _triad(device)}, repeats, device, bar)
    flops = {name: 2 * macs / times[name].median for name, (_, macs) in jobs.items()}
    return Peaks(flops, 3 * 4 * TRIAD / times["triad"].median)


def quick_peaks(device: torch.device) -> Peaks:
    """The peaks in float32, in a quarter of a second: one convolution, and the triad; on a CPU of smaller arrays."""
    images, size = (IMAGES_ON_GPU, TRIAD) if device.type == "cuda" else (QUICK_IMAGES, QUICK_TRIAD)
    convolution, macs = _convolution(device, torch.float32, torch.channels_last, images)
    jobs = {"convolution": convolution, "triad": _triad(device, size)}
    times = measure(jobs, QUICK_REPEATS, device)
    return Peaks({"convolution": 2 * macs / times["convolution"].median}, 3 * 4 * size / times["triad"].median)


def of_limit(network: nn.Module, image_size: int, time: Latency, peaks: Peaks, training: bool = False) -> OfLimit | None:
    """The share of the limit that `time`, measured in fp32, reaches.

    None for a network without this project's layers: the bytes that other layers move are not counted.
    """
    step = step_of(network, (3, image_size, image_size), time.batch_size, torch.float32, training)
    return peaks.of_limit(least(step), time.ms_per_image * time.batch_size / 1000) if step.layers else None


def _products(device: torch.device, dtype: torch.dtype) -> dict[str, tuple[Job, int]]:
    """Matrix products and a wide convolution of PyTorch, with the MACs of each."""
    jobs: dict[str, tuple[Job, int]] = {}
    half = "" if dtype == torch.float32 else ", bf16"
    for size in (1024, 2048):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        jobs[f"matrix product {size}{half}"] = (partial(torch.matmul, a, b), size**3)
    for name, order in (("channels-last", torch.channels_last), ("contiguous", torch.contiguous_format)):
        jobs[f"convolution 3x3, 256 channels, {name}{half}"] = _convolution(device, dtype, order)
    return jobs


def _convolution(device: torch.device, dtype: torch.dtype, order: torch.memory_format, images: int = 16) -> tuple[Job, int]:
    noise, shapes = torch.Generator().manual_seed(0), ((images, 256, 18, 18), (256, 256, 3, 3))
    x, w = (torch.randn(shape, generator=noise).to(device, dtype, memory_format=order) for shape in shapes)
    return partial(F.conv2d, x, w, padding=1), images * 256 * 256 * 9 * 18 * 18


def _triad(device: torch.device, size: int = TRIAD) -> Job:
    """The triad of STREAM [McCalpin 1995]: a = b + 3 c, in allocated memory. It reads two arrays and writes one."""
    a, b, c = (torch.ones(size, device=device) for _ in range(3))
    return lambda: torch.add(b, c, alpha=3.0, out=a)
