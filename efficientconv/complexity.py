"""What a network costs for one image: MACs, parameters, activations, in all and layer by layer.

1 MAC = one multiply-accumulate = 2 FLOPs. Convolutions and fully connected layers are counted; biases, batch norm, ReLU,
pooling and additions are not (paper, section 1). The cost is the mathematical one: a topological layer counts its
connections, whatever its implementation computes. Activations are the elements that those layers put out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Cost:
    macs: int = 0
    params: int = 0
    activations: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.params + other.params, self.activations + other.activations)


@dataclass(frozen=True)
class NetworkCost(Cost):
    """The cost of a network; `layers` has that of each layer under its name in the network, in order of execution."""

    layers: dict[str, Cost] = field(default_factory=dict)

    def within(self, prefix: str) -> Cost:
        """Sum over the layers whose name starts with `prefix` (whole name parts)."""
        return sum((c for n, c in self.layers.items() if (n + ".").startswith(prefix.rstrip(".") + ".")), Cost())


def conv_cost(in_channels: int, out_channels: int, kernel_area: int, groups: int, positions: int) -> Cost:
    """A convolution without bias: out * in / groups * k^2 weights, each used once at each of `positions` places."""
    weights = out_channels * (in_channels // groups) * kernel_area
    return Cost(weights * positions, weights, out_channels * positions)


def count(model: nn.Module, shape: tuple[int, int, int]) -> NetworkCost:
    """Cost of `model` for one image of `shape` = (channels, height, width).

    Runs the network once on torch's meta device: nothing is computed, and the model is left as it was. Every convolution,
    fully connected layer and layer of this project that runs is counted each time that it runs.
    """
    layers: dict[str, Cost] = {}
    meta = {name: tensor.to("meta") for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    with _recording(model, layers), _evaluating(model), torch.no_grad():
        torch.func.functional_call(model, meta, (torch.empty(1, *shape, device="meta"),))
    total = sum(layers.values(), Cost())
    return NetworkCost(total.macs, total.params, total.activations, layers)


def _module_cost(module: nn.Module, x: Tensor, y: Tensor) -> Cost | None:
    """None for a module that has nothing of its own to count. Layers of this project state their own `cost`."""
    if hasattr(module, "cost"):
        return module.cost(x.shape[-2], x.shape[-1])
    own_params = sum(p.numel() for p in module.parameters(recurse=False))
    if isinstance(module, nn.Conv2d):
        area, positions = math.prod(module.kernel_size), y.shape[-2] * y.shape[-1]
        cost = conv_cost(module.in_channels, module.out_channels, area, module.groups, positions)
        return Cost(cost.macs, own_params, cost.activations)
    if isinstance(module, nn.Linear):
        return Cost(module.in_features * module.out_features, own_params, module.out_features)
    return Cost(params=own_params) if own_params else None


@contextmanager
def _recording(model: nn.Module, layers: dict[str, Cost]) -> Iterator[None]:
    """While open, each forward call adds to `layers`; what is inside a module with its own `cost` is left to it."""
    names, hooks = {}, []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        cost = _module_cost(module, inputs[0], output)
        if cost is not None:
            known = layers.get(names[module])
            # a module that runs twice multiplies twice but has its parameters once
            layers[names[module]] = cost if known is None else known + Cost(cost.macs, 0, cost.activations)

    owned: str | None = None
    for name, module in model.named_modules():
        if owned is not None and (not owned or name.startswith(owned + ".")):  # "" owns all: it is the model itself
            continue
        owned = name if hasattr(module, "cost") else None
        names[module] = name
        hooks.append(module.register_forward_hook(record))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
