"""The cost of a network for one image: MACs, parameters, activations, in total and layer by layer.

1 MAC = one multiply-accumulate = 2 FLOPs. Convolutions, fully connected layers and other matrix products are counted;
biases, normalisation, ReLU, softmax, pooling and additions are not (paper, section 1). Activations are the output elements
of the counted operations. Parameters are all parameters of the network, each once.

A layer that multiplies by itself, as a topological one does, states its cost. A layer made of other modules costs what these
cost, whatever stands in their place by now. torch knows the MACs of other operations (operations.py). Any other
operation is refused: nothing is counted as 0 by mistake.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._python_dispatch import TorchDispatchMode

from efficientconv.errors import UserError, did_you_mean, refuse_frozen, require_network
from efficientconv.operations import formulas, is_free

KINDS = ("math", "executed")


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates of one image (1 MAC = 2 FLOPs), parameters, and outputs of the operations that multiply."""

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


def conv_cost(
    in_channels: int, out_channels: int, kernel_area: int, groups: int, positions: int, bias: bool = False
) -> Cost:
    """A convolution: out * in / groups * k^2 weights, each used once at each of `positions` places. A bias is no MAC."""
    weights = out_channels * (in_channels // groups) * kernel_area
    return Cost(weights * positions, weights + out_channels * bias, out_channels * positions)


def count(model: nn.Module, shape: Sequence[int], kind: str = "math") -> NetworkCost:
    """Cost of `model`, any network, for one image.

        cost = count(model, (3, 224, 224))
        cost.macs, cost.params, cost.within("layer1").macs     # of the network; of the layers whose names begin with layer1

    Runs the network once, in eval mode, on torch's meta device: nothing is computed, and the model is left as it was. What
    runs several times is counted as often; parameters that do not run, such as an auxiliary classifier's, are counted too.

    Args:
        shape: (channels, height, width) of the image, or the shape of another input, without the batch.
        kind: "math": what the layers are defined to multiply; a topological layer counts its connections, and what computes
            a parametrized weight is not counted. "executed": all that the reference implementation multiplies, half of
            FlopCounterMode's FLOPs: there a topological layer is a dense one.
    Raises:
        UserError: another kind; a shape that is not of whole numbers; an operation whose multiplications are unknown; a
            network that `freeze` made.
        RuntimeError: the model does not take an input of `shape`, or decides by values, which the meta device has not.
    """
    if kind not in KINDS:
        raise UserError(f"count: unknown kind '{kind}': {did_you_mean(kind, KINDS)}")
    if not isinstance(shape, Sequence) or not all(isinstance(size, Integral) and size >= 0 for size in shape):
        raise UserError(
            "count: the shape must be whole numbers, 0 or more, (channels, height, width): (3, 32, 32), for example"
        )
    require_network(model, "count")
    refuse_frozen(model, "counted")
    counter = _Counter(model, by_statement=kind == "math")
    with counter.following_calls(), _evaluating(model), _plain_attention(), torch.no_grad(), counter:
        images = torch.empty(1, *shape, device="meta", dtype=_dtype(model))
        try:
            torch.func.functional_call(model, _on_meta(model), (images,), tie_weights=False)
        except RuntimeError as error:
            raise RuntimeError(
                f"count: the model does not run on an input of shape {tuple(shape)} on torch's meta device; an image has "
                f"(channels, height, width), without the batch, and no values to decide by: {error}"
            ) from error
    total = sum(counter.layers.values(), Cost())
    return NetworkCost(total.macs, total.params, total.activations, counter.layers)


def _on_meta(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of each module, once, whatever names it has: functional_call's own ties put back the wrong ones there."""
    return {
        f"{name}.{key}" if name else key: tensor.to("meta")
        for name, module in model.named_modules()
        for key, tensor in [*module._parameters.items(), *module._buffers.items()]
        if tensor is not None
    }


def _dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the numbers that `model` computes with."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())


class _Counter(TorchDispatchMode):
    """Adds the MACs of each operation to the innermost module in which the operation runs; a layer counts as one module.

    by_statement: stated costs count, and not the operations of those that state them, nor of parametrizations.
    """

    def __init__(self, model: nn.Module, by_statement: bool):
        super().__init__()
        self.layers: dict[str, Cost] = {}  # in the order in which they ran; those that did not run come last
        self._by_statement = by_statement
        self._modules = list(_followed(model))
        self._params = _params(self._modules)  # of each module that has not yet run
        self._running = [("", True)]  # name of each module that runs, and whether its operations count
        self._formulas = formulas()

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        formula = self._formulas.get(operation._overloadpacket)
        known = formula is not None or is_free(operation)
        if not known:
            with self:  # a matmul or an einsum is made of operations that are known
                output = operation.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        output = operation(*args, **kwargs)
        name, counts = self._running[-1]
        if formula is not None and counts:
            made = output[0] if isinstance(output, tuple) else output
            self._add(name, Cost(formula(*args, **kwargs, out_val=output) // 2, 0, made.numel()))
        elif not known and counts:
            raise UserError(
                f"count: what {operation._overloadpacket} multiplies is unknown (in {name or 'the network itself'}); give "
                "torch a formula of it: torch.utils.flop_counter.register_flop_formula"
            )
        return output

    @contextmanager
    def following_calls(self) -> Iterator[None]:
        """While open, calls of the modules are followed; at its end `layers` is complete."""
        hooks = []
        for name, module in self._modules:
            stated = self._by_statement and _states_cost(module)
            counts = not (stated or self._by_statement and isinstance(module, ParametrizationList))
            hooks.append(module.register_forward_pre_hook(partial(self._enter, name, counts)))
            hooks.append(module.register_forward_hook(partial(self._leave, stated), with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        for name in list(self._params):
            self._add_params(name)

    def _enter(self, name: str, counts: bool, *_: object) -> None:
        self._running.append((name, counts and self._running[-1][1]))

    def _leave(self, stated: bool, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        name, _ = self._running.pop()
        if stated:
            (x,) = (*args, *kwargs.values())
            cost, images = module.cost(*x.shape[-2:]), math.prod(x.shape[:-3])
            self._add(name, Cost(cost.macs * images, 0, cost.activations * images))
        self._add_params(name)

    def _add_params(self, name: str) -> None:
        if params := self._params.pop(name, 0):
            self._add(name, Cost(params=params))

    def _add(self, name: str, cost: Cost) -> None:
        self.layers[name] = self.layers.get(name, Cost()) + cost


def _is_layer(module: nn.Module) -> bool:
    """Whether the module is a layer as this project's are, with its formula: a method `cost(h, w)`."""
    return callable(getattr(type(module), "cost", None))


def _states_cost(module: nn.Module) -> bool:
    """Whether the module is a layer that multiplies by itself. Parts could be others than its formula counts."""
    return _is_layer(module) and module._modules.keys() <= {"parametrizations"} and "forward" not in module.__dict__


def _followed(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module, and the name under which it is counted: its own, or that of the layer that it is a part of."""
    layer: str | None = None
    for name, module in model.named_modules():
        if layer is None or not f"{name}.".startswith(layer and f"{layer}."):  # "" is the start of every name
            layer = name if _is_layer(module) else None
        yield name if layer is None else layer, module


def _params(modules: Iterable[tuple[str, nn.Module]]) -> dict[str, int]:
    """Parameters that are counted under each name; shared ones once."""
    seen: set[nn.Parameter] = set()
    numbers: dict[str, int] = {}
    for name, module in modules:
        own = set(module.parameters(recurse=False)) - seen
        seen |= own
        numbers[name] = numbers.get(name, 0) + sum(p.numel() for p in own)
    return numbers


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Without torch's fused attention, an operation that multiplies and has no formula."""
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
