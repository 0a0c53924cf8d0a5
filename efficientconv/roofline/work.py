"""The FLOPs and bytes of the operations of a pass, recorded on torch's meta device, where nothing is computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# In each of these kinds a machine reaches a different share of its peaks.
KINDS = (
    "convolution", "depthwise", "depthwise_weights", "transposed", "product", "batch_norm", "pool", "elementwise", "spread",
    "optimizer",
)  # fmt: skip
# Operations that do no work, beside the views: they allocate or name memory, and do not read or write it.
_FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "_unsafe_view"}
_OVERWRITES = {"copy_", "zero_", "fill_"}  # their first argument
_NAMES = {"pool": "pool", "scatter": "spread", "gather": "spread", "new_zeros": "spread", "mm": "product"}  # parts of names
# Forward: R, then R W. Backward: R R, then R R W. In inference, without statistics: R W.
NORM_PASSES, NORM_BACKWARD_PASSES, NORM_INFERENCE_PASSES = 3, 5, 2


@dataclass(frozen=True)
class Work:
    """The work of one operation, or of one kernel, on a whole batch."""

    kind: str  # of KINDS
    flops: float
    bytes: float  # read and written, each tensor once


class Recorder(TorchDispatchMode):
    """While open, it adds the work of every operation of torch to `work`, also in backward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.work: list[Work] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        output = operation(*args, **(kwargs or {}))
        name = operation._overloadpacket.__name__
        if not operation.is_view and name not in _FREE:
            self.work += _work(name, args, _tensors((args[name in _OVERWRITES :], kwargs)), output)
        return output


def size(*tensors: Tensor) -> int:
    """The size in bytes."""
    return sum(t.numel() * t.element_size() for t in tensors)


def _work(name: str, args: tuple, inputs: list[Tensor], output: Any) -> list[Work]:
    if name == "convolution":
        return [_convolution(args[0], args[1], output, transposed=args[6])]
    if name == "convolution_backward":
        return _convolution_gradients(*args[:3], transposed=args[7], wanted=args[10])
    if "batch_norm" in name:
        maps = max(inputs, key=lambda t: t.numel())
        return [Work("batch_norm", 0, size(maps) * _norm_passes(name, args))]
    kind = next((kind for part, kind in _NAMES.items() if part in name), "elementwise")
    outputs = _tensors(output)
    flops = _product_flops(inputs, outputs[0]) if kind == "product" else 0
    read = {id(tensor): tensor for tensor in inputs}.values()
    return [Work(kind, flops, size(*read, *outputs))]


def _norm_passes(name: str, args: tuple) -> int:
    if "backward" in name:
        return NORM_BACKWARD_PASSES
    training = args[5]
    return NORM_PASSES if training else NORM_INFERENCE_PASSES


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _product_flops(inputs: list[Tensor], output: Tensor) -> int:
    """The product is of the last two inputs: addmm has a first one, which it adds."""
    return 2 * output.numel() * inputs[-2].shape[-1]


def _convolution(x: Tensor, weight: Tensor, y: Tensor, transposed: bool) -> Work:
    depthwise = weight.shape[1] == 1 and x.shape[1] > 1
    kind = ("transposed" if transposed else "depthwise") if depthwise else "convolution"
    return Work(kind, convolution_flops(weight, x if transposed else y), size(x, weight, y))


def _convolution_gradients(dy: Tensor, x: Tensor, weight: Tensor, *, transposed: bool, wanted: list[bool]) -> list[Work]:
    """Each of the two gradients takes as many FLOPs as the convolution."""
    forward = _convolution(x, weight, dy, transposed)
    maps, weights = (forward.kind, f"{forward.kind}_weights") if forward.kind == "depthwise" else (forward.kind,) * 2
    return [Work(kind, forward.flops, forward.bytes) for kind, want in zip((maps, weights), wanted) if want]


def convolution_flops(weight: Tensor, maps: Tensor) -> int:
    """Each weight is used once at each place of `maps`, B x n x h x w: the output, or the input if transposed."""
    return 2 * weight.numel() * maps.shape[0] * math.prod(maps.shape[2:])


def recorded(run: Callable[[], object]) -> list[Work]:
    """The work of `run()`."""
    with Recorder() as recorder:
        run()
    return recorder.work


def on_meta(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor of the same shape without values. Floating-point numbers become `dtype`."""
    return torch.empty_like(tensor, device="meta", dtype=dtype if tensor.is_floating_point() else tensor.dtype)
