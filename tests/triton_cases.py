"""Layers in Triton's interpreter beside the reference, as a program: Triton reads TRITON_INTERPRET when it is imported.

Prints JSON: for each case the relative error of what comes out, of each gradient and of each buffer.
"""

from __future__ import annotations

import copy
import json
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn

from efficientconv.engine.trainer import batch_norms, batches_counted
from efficientconv.layers import Topology, build_layer
from efficientconv.layers.backend import set_backend
from efficientconv.layers.operators import ops

CONTIGUOUS, LAST = torch.contiguous_format, torch.channels_last


class Case(NamedTuple):
    layer: str
    channels: tuple[int, int]
    maps: tuple[int, int, int]  # images, height, width
    args: dict
    training: bool = True
    autocast: bool = False
    order: torch.memory_format = LAST
    residual: bool | None = None


PLANE = Topology((3, 4), (2, 3))
TWO, THREE = {"kernel_size": 2, "padding": 1}, {"kernel_size": 3, "padding": 2}
CASES = {
    "sic": Case("sic", (5, 5), (2, 5, 4), {"kernel_size": 3}),
    "sic_bf16": Case("sic", (5, 5), (2, 5, 4), {"kernel_size": 3}, autocast=True),
    "sic_evaluating": Case("sic", (5, 5), (1, 1, 3), {"kernel_size": 3}, training=False),
    "sic_5x5_contiguous": Case("sic", (3, 67), (1, 4, 9), {"kernel_size": 5}, order=CONTIGUOUS),
    "sic_many_tiles": Case("sic", (40, 3), (2, 9, 9), {"kernel_size": 1}),
    "sic_5x5_many_tiles": Case("sic", (40, 3), (2, 9, 9), {"kernel_size": 5}),
    "sic_topology": Case("sic", (12, 12), (2, 3, 3), {"kernel_size": 3, "topology": PLANE}, residual=False),
    "pair": Case("channel_bottleneck", (6, 6), (2, 3, 3), {"kernel_size": 3}),
    "cells": Case("spatial_bottleneck", (5, 5), (2, 7, 6), TWO),
    "cells_bf16": Case("spatial_bottleneck", (5, 5), (2, 7, 6), TWO, autocast=True),
    "cells_evaluating": Case("spatial_bottleneck", (5, 4), (1, 6, 6), {"kernel_size": 2}, training=False),
    "cells_3x3_contiguous": Case("spatial_bottleneck", (4, 4), (1, 4, 5), THREE, order=CONTIGUOUS),
    "cells_of_a_pixel": Case("spatial_bottleneck", (4, 4), (1, 2, 3), {"kernel_size": 1}, training=False),
}


def layers(case: Case) -> list[nn.Module]:
    """The reference and Triton's, of equal weights."""
    torch.manual_seed(0)
    layer = build_layer(case.layer, *case.channels, residual=case.residual, **case.args).train(case.training)
    bn = layer.bn
    for values, low in ((bn.weight, 0.5), (bn.bias, -0.5), (bn.running_mean, -0.5), (bn.running_var, 0.5)):
        nn.init.uniform_(values, low, low + 1)
    return [set_backend(copy.deepcopy(layer), backend) for backend in ("reference", "triton")]


def tensors(layer: nn.Module, x: Tensor, dy: Tensor, autocast: bool = False) -> list[Tensor]:
    """What comes out, gradients and buffers."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
        y = layer(x)
    y.backward(dy.to(y.dtype))
    assert y.dtype == (torch.bfloat16 if autocast else torch.float32)
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters()), *(b.detach() for b in layer.buffers())]


def inputs(case: Case) -> tuple[Tensor, Tensor]:
    batch, h, w = case.maps
    x = torch.randn(batch, case.channels[0], h, w).contiguous(memory_format=case.order) + 3  # means far from zero
    return x, torch.randn(batch, case.channels[1], h, w)


def relative(ours: Tensor, expected: Tensor) -> float:
    difference = (ours.double() - expected.double()).norm()
    return (difference / expected.double().norm().clamp_min(1e-6)).item()


def errors(case: Case) -> list[float]:
    reference, ours = layers(case)
    x, dy = inputs(case)
    expected, found = tensors(reference, x, dy), tensors(ours, x, dy, case.autocast)
    assert found[0].is_contiguous(memory_format=case.order)
    assert [t.dtype for t in found[1:]] == [t.dtype for t in expected[1:]]
    return [relative(*pair) for pair in zip(found, expected, strict=True)]


def are_alike(ours: list[Tensor], expected: list[Tensor], buffers: int) -> bool:
    """Whether outputs and gradients have equal bits. The buffers, which come last, may differ by rounding: in torch 2.11."""
    pairs = list(zip(ours, expected, strict=True))
    return all(torch.equal(*pair) for pair in pairs[:-buffers]) and all(relative(*pair) < 1e-6 for pair in pairs[-buffers:])


def properties() -> dict[str, bool]:
    """Of model C's layer."""
    case = CASES["sic"]
    reference, ours = layers(case)
    x, dy = inputs(case)
    first, second = (tensors(copy.deepcopy(ours), x, dy) for _ in range(2))
    compiled = torch.compile(copy.deepcopy(ours), backend="aot_eager", fullgraph=True)
    found = {
        "equal_bits": all(map(torch.equal, first, second)),
        "compiled": are_alike(first, tensors(compiled, x, dy), buffers=3),
        "is_taken": takes_triton(ours, x),
        "left_to_hooks": not takes_triton(with_hook(copy.deepcopy(ours)), x),
        "left_to_reference": not takes_triton(reference, x),
        "not_taken_by_auto": not takes_triton(set_backend(copy.deepcopy(ours), "auto"), x),
        "double_left_to_reference": not takes_triton(copy.deepcopy(ours).double(), x.double()),
        "nan_stays": bool(ours(x * float("nan")).isnan().all()),
    }
    for name in ("sic", "cells"):
        torch.library.opcheck(ops.fused_layer.default, arguments(CASES[name]))  # raises
    case = CASES["sic_topology"]
    _, connected = layers(case)
    with mock.patch.object(Topology, "neighbours", autospec=True, side_effect=Topology.neighbours) as recomputed:
        tensors(connected, *inputs(case))  # on a GPU a step would wait for the copy
    found["neighbours_are_kept"] = not recomputed.called
    ours.bn.reset_running_stats()  # it has seen a nan
    counted = copy.deepcopy(ours)
    with batches_counted(batch_norms(counted)):  # as the trainer does on a GPU
        counted(x)
    ours(x)
    found["counted_together"] = all(map(torch.equal, counted.buffers(), ours.buffers()))
    for layer in (reference, ours):
        layer.bn.reset_running_stats()
        layer.bn.momentum = None
        layer(x), layer(dy)
    found["mean_over_batches"] = relative(ours.bn.running_var, reference.bn.running_var) < 1e-5
    return found


def arguments(case: Case) -> tuple:
    """Of its operator, in training."""
    _, layer = layers(case)
    (x, _), conv, bn = inputs(case), layer.conv, layer.bn
    filters, weight, *expansion = conv.parameters()
    tensors = x.requires_grad_(), filters, weight, *(expansion or [None]), None, bn.weight, bn.bias
    return *tensors, None, None, True, True, 1e-5, conv.padding[0]


def takes_triton(layer: nn.Module, x: Tensor) -> bool:
    with torch.autograd.profiler.profile() as seen:
        layer(x)
    return any(event.key == "efficientconv::fused_layer" for event in seen.key_averages())


def with_hook(layer: nn.Module) -> nn.Module:
    layer.conv.depthwise.register_forward_hook(lambda *_: None)
    return layer


if __name__ == "__main__":
    print(json.dumps({"errors": {name: errors(case) for name, case in CASES.items()}, "properties": properties()}))
