"""A frozen network of `create_model` whose layers run in one call, if nothing needs its modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.deploy.frozen import Frozen, FrozenLayer, FrozenLinear, PackedLayer, is_plain
from efficientconv.layers.backend import norm_of
from efficientconv.layers.watchers import has_global_hooks, is_dispatched
from efficientconv.models.entry import NO_POOL, takes_stem_kernel, window_of
from efficientconv.models.network import Head, Network, Stage


class FrozenNetwork(Frozen, Network):
    """Images B x 3 x H x W -> logits B x classes, without Python between the layers.

    Python takes a large part of the time of one small image. The modules run one by one where something needs them: hooks,
    a module in place of another, gradients, autocast, torch.func, a tracer.
    """

    def __init__(self, network: Network):
        nn.Module.__init__(self)
        self.stem, self.stages, self.head = network.stem, network.stages, network.head
        self.eval()
        self._one_call = _OneCall(self)

    def forward(self, x: Tensor) -> Tensor:
        one_call = self._one_call
        if one_call.run is not None and is_plain(x) and x.numel() > 0 and not _is_observed() and one_call.is_current():
            return one_call.run(x).flatten(1)
        return super().forward(x)

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle, which cannot handle a program."""
        return self.__dict__ | {"_one_call": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._one_call = _OneCall(self)


class _OneCall:
    """The program that computes a network, and the modules that it stands for."""

    def __init__(self, network: Network):
        self.run = _run_of(network)
        self._states = [module.__dict__ for module in _outer_modules(network)]
        self._parts = self._parts_now()

    def is_current(self) -> bool:
        """Whether the modules would still compute what the program computes."""
        for state in self._states:
            if state["_forward_hooks"] or state["_forward_pre_hooks"] or state["training"] or "forward" in state:
                return False
        parts = self._parts_now()
        return len(parts) == len(self._parts) and all(map(is_, parts, self._parts))

    def _parts_now(self) -> list[object]:
        own = ("_modules", "_parameters", "_buffers")
        return [part for state in self._states for name in own for part in state[name].values()]


def _is_observed() -> bool:
    """Whether something wants to see the operators one by one, or to compute in another type."""
    return (
        torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling() or torch.jit.is_tracing() or has_global_hooks()
        or is_dispatched()
    )  # fmt: skip


def _outer_modules(module: nn.Module) -> Iterator[nn.Module]:
    """`module` and the modules inside it. The modules inside frozen ones do not run."""
    yield module
    for inner in () if isinstance(module, Frozen) and not isinstance(module, Network) else module.children():
        yield from _outer_modules(inner)


Call = tuple[str, tuple]  # a method of Program (native/csrc/program.h), and its arguments
METHODS = {"frozen_layer": "layer", "frozen_spatial_bottleneck": "spatial_bottleneck"}  # the methods of the operators


def _run_of(network: Network) -> Callable[[Tensor], Tensor] | None:
    """The program that computes `network`: images -> logits B x classes x 1 x 1. None if a module has no call."""
    calls = list(_calls(network))
    if None in calls:
        return None
    program = torch.classes.efficientconv.Program()
    for method, arguments in filter(None, calls):
        getattr(program, method)(*arguments)
    return program.run


def _calls(network: Network) -> Iterator[Call | None]:
    """The calls of the modules in their order; None for a module without one."""
    yield _stem(network.stem, next(iter(network.stages.values())).pool)
    for module in _body(network):
        yield from _module(module)
    yield from _head(network.head)


def _body(network: Network) -> Iterator[nn.Module]:
    """The modules behind the stem and the first pool, up to the last maps."""
    for i, stage in enumerate(network.stages.values()):
        if type(stage) is not Stage or type(stage.layers) is not nn.Sequential:
            yield stage
            continue
        for module in (stage.pool, stage.transition, *stage.layers)[i == 0 :]:
            if type(module) is not nn.Identity:
                yield module
    yield network.head.conv


def _stem(stem: Any, pool: Any) -> Call | None:
    window = NO_POOL if type(pool) is nn.Identity else window_of(pool)
    if window is None or not takes_stem_kernel(stem, torch.zeros(1, stem.conv.in_channels, 1, 1)):
        return None
    conv, (gamma, beta, mean, var, *_, eps) = stem.conv, norm_of(stem.bn)
    return "stem", (conv.weight, conv.stride[0], conv.padding[0], gamma, beta, mean, var, eps, window)


def _module(module: Any) -> Iterator[Call | None]:
    """Of a layer: a call for each convolution. The first one keeps its input for the last one's residual connection."""
    if isinstance(module, PackedLayer) and module.contiguous:  # faster here, even if the maps must be made contiguous
        module = module.contiguous
    if isinstance(module, PackedLayer):
        yield "packed", (True, module.residual, module.weight, module.bias, *module.geometry)
    elif isinstance(module, FrozenLayer) and module.convolutions:
        for i, (operator, arguments) in enumerate(module.convolutions, 1):
            last = i == len(module.convolutions)
            yield METHODS[operator._opname], (i == 1, last and module.residual, *arguments)
    else:
        window = window_of(module)
        yield window and ("max_pool", (window,))


def _head(head: Any) -> Iterator[Call | None]:
    kinds = [type(part) for part in (head.pool, head.hidden, head.relu, head.dropout, head.classifier)]
    one_value = type(head) is Head and head.pool.output_size in (1, (1, 1))
    if not one_value or kinds != [nn.AdaptiveAvgPool2d, FrozenLinear, nn.ReLU, nn.Dropout, FrozenLinear]:
        yield None
        return
    yield "average", ()
    for linear, relu in ((head.hidden, True), (head.classifier, False)):
        yield None if linear.bias is None else ("linear", (linear.weight, linear.bias, relu))
