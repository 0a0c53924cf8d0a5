"""Layers in Triton compared with plain PyTorch: correctness, and time of the layer and of a training step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.engine.device import set_tf32
from efficientconv.gpu_day.bench import Bench, Row
from efficientconv.gpu_day.training import give_back
from efficientconv.layers.backend import set_backend

PASSES = 5  # whose kernels are counted
KERNELS = 12  # the number of kernels listed for a pass, the longest first


def layers(bench: Bench) -> Iterator[Row]:
    """The first layer of models c, k, m and i in bf16, forward and backward.

    ms: time of a pass with its launches by Python. ms_of_kernels: time that the device works. relative_error: the largest
    of the output or of a gradient, against float32 without TF32.
    """
    backends = ("triton", "reference") if bench.device.type == "cuda" else ("reference",)
    for name in bench.models("ckmi"):
        network: Any = bench.network(name, bench.layout)
        first = network.stages["stage2"].layers[0].to(bench.device)
        channels, side = first.conv.in_channels, 8 if bench.tiny else 36
        x, dy = (torch.randn(bench.batch, channels, side, side, device=bench.device) for _ in range(2))
        x, dy = (maps.bfloat16().contiguous(memory_format=torch.channels_last) for maps in (x, dy))
        exact = _exact(first, x, dy)
        for backend in backends:
            yield from _passes(bench, name, backend, set_backend(first, backend), x, dy, exact)
        give_back()


def models(bench: Bench) -> Iterator[Row]:
    """Training steps in bf16, as CUDA graphs and eager. Eager steps in plain PyTorch are those of the stage `models`."""
    orders = [(name, backend, True) for name in "ck" for backend in ("triton", "reference")] + [("a", "reference", True)]
    orders += [(name, "triton", False) for name in "ckmil"]
    for name, backend, compiled in orders if bench.device.type == "cuda" else [("c", "reference", False)]:
        row = bench.step_row(name, backend=backend, compile=compiled, compile_mode="reduce-overhead")
        yield {"backend": backend, **row}
        give_back()


def _exact(layer: nn.Module, x: Tensor, dy: Tensor) -> list[Tensor]:
    set_tf32(False)
    maps = x.float().requires_grad_()
    y = set_backend(layer, "reference")(maps)
    found = [y, *torch.autograd.grad(y, [maps, *layer.parameters()], dy.float())]
    set_tf32(True)
    return [t.detach() for t in found]


def _passes(
    bench: Bench, name: str, backend: str, layer: nn.Module, x: Tensor, dy: Tensor, exact: list[Tensor]
) -> Iterator[Row]:
    maps = x.detach().requires_grad_()
    wanted = [maps, *layer.parameters()]

    def forward() -> Tensor:
        with torch.autocast(bench.device.type, torch.bfloat16):
            return layer(maps)

    y = forward()

    def backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad(y, wanted, dy, retain_graph=True)

    found = [y, *backward()]
    errors = [_relative(ours, expected) for ours, expected in zip(found, exact, strict=True)]
    for of, job, error in (("forward", forward, errors[0]), ("backward", backward, max(errors[1:]))):
        kernels = bench.kernels(job, PASSES)
        yield {
            "model": name, "backend": backend, "maps": "x".join(map(str, x.shape)), "pass": of,
            "ms": 1e3 * bench.spread(job).median, "ms_of_kernels": sum(kernel.ms for kernel in kernels),
            "relative_error": error,
            "kernels": ", ".join(f"{kernel.name[:40]} {kernel.ms:.3f}" for kernel in kernels[:KERNELS]),
        }  # fmt: skip


def _relative(ours: Tensor, expected: Tensor) -> float:
    return ((ours.double() - expected.double()).norm() / expected.double().norm()).item()
