"""The rates of the device's memory, arithmetic and kernels: the peaks, and each kind of operation in model C's shapes.

scripts/roofline.py takes its shares of the peaks from these measurements.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from efficientconv.gpu_day.bench import Bench, Row
from efficientconv.roofline.work import recorded
from efficientconv.timing import Job

CHANNELS, SIDE = 128, 36  # of model C's second stage, layout imagenet


def operations(bench: Bench) -> Iterator[Row]:
    """Measures a copy and products first, which give the peaks. The numbers are random: a GPU runs faster on zeros."""
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        real, shapes = (_jobs(bench, torch.device(d), dtype) for d in (bench.device, "meta"))
        for name, job in real.items():
            yield _row(name, precision, job, shapes[name], bench)
    yield _host(bench)


def _row(name: str, precision: str, job: Job, on_meta: Job, bench: Bench) -> Row:
    work = recorded(on_meta)
    flops, moved = sum(w.flops for w in work), sum(w.bytes for w in work)
    seconds = bench.spread(job).median
    return {
        "operation": name, "kind": max(work, key=lambda w: w.bytes).kind, "precision": precision, "flops": flops,
        "bytes": moved, "ms": 1e3 * seconds, "tflop_per_s": flops / seconds / 1e12, "gb_per_s": moved / seconds / 1e9,
    }  # fmt: skip


def _host(bench: Bench) -> Row:
    """A step on one small image: the device waits for the host's launches."""
    job, on_meta = _small_step(bench.device), _small_step(torch.device("meta"))
    number, seconds = len(recorded(on_meta)), bench.spread(job).median
    return {
        "operation": f"a launch, of {number} in a step on one image", "kind": "launch", "precision": "fp32", "flops": 0,
        "bytes": 0, "ms": 1e3 * seconds / number, "tflop_per_s": 0.0, "gb_per_s": 0.0,
    }  # fmt: skip


def _small_step(device: torch.device) -> Job:
    layers = (nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()) * 10
    network, x = nn.Sequential(*layers).to(device), torch.zeros(1, 16, 4, 4, device=device)
    dy = torch.ones(1, 16, 4, 4, device=device)
    return lambda: network(x).backward(dy)


def _jobs(bench: Bench, device: torch.device, dtype: torch.dtype) -> dict[str, Job]:
    large, side = (2**20, 256) if bench.tiny else (2**29, 8192)
    source = torch.zeros(large, device=device, dtype=dtype)
    target, square = torch.empty_like(source), torch.randn(side, side, device=device, dtype=dtype)
    x = torch.randn(bench.batch, CHANNELS, SIDE, SIDE, device=device, dtype=dtype)
    x = x.to(memory_format=torch.channels_last)
    jobs: dict[str, Job] = {"copy": lambda: target.copy_(source), "product": lambda: square @ square}
    jobs["residual connection and ReLU"] = lambda: torch.relu(x + x)
    for name, module in _modules().items():
        jobs |= _passes(name, module.to(device, dtype).to(memory_format=torch.channels_last), x)
    return jobs


def _modules() -> dict[str, nn.Module]:
    return {
        "convolution 3x3": nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
        "projection": nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False),
        "depthwise 3x3": nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False),
        "transposed depthwise 2x2": nn.ConvTranspose2d(CHANNELS, CHANNELS, 2, 2, groups=CHANNELS, bias=False),
        "batch norm": nn.BatchNorm2d(CHANNELS),
        "max pool 3x3": nn.MaxPool2d(3, 2),
    }


def _passes(name: str, module: nn.Module, x: Tensor) -> dict[str, Job]:
    """The passes of a module: forward, and the gradients of maps and of weights, one by one if torch computes them so."""
    maps = x.detach().requires_grad_()
    y = module(maps)
    dy = torch.randn_like(y)
    alone = isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    wanted = {"of maps": [maps], "of weights": [module.weight]} if alone else {"": [maps, *module.parameters()]}
    backward = {
        f"{name}, gradient {of}".rstrip(): (lambda inputs=inputs: torch.autograd.grad(y, inputs, dy, retain_graph=True))
        for of, inputs in wanted.items()
    }  # fmt: skip
    return {name: lambda: module(maps)} | backward
