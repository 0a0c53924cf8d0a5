"""The layers as operators, torch.ops.efficientconv.*: the same on every device, and known to torch.compile and export.

The file of a layer defines its convolution (`sic`, `topological`, `spatial_bottleneck`): a reference, which also tells
tracers the output's shape, and the gradients, a second operator. The other operators are composites, and tracers see their
parts: a layer around a convolution (`..._layer`: batch norm, residual connection and ReLU), its end alone (`norm_relu`),
`stem` and `max_pool`. The CPU has kernels for all operators (native/csrc), which run the reference where they do not apply.
`register` adds the kernels of another device.

Maps are B x n x H x W, float32 for the kernels. Outputs are channels-last where x is, those of frozen layers always
contiguous. Weights are the modules' weights.
`dims`, `connections` and `anchor` are those of a Topology; without dims every output sees every input. Shapes that do not
fit raise the errors of torch.nn.functional.conv2d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import Library, get_ctx, impl, register_autograd, register_fake
from torch.nn import functional as F

Sizes = tuple[int, ...]
Norm = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None, bool, float | None, float]

DEVICES = {"cpu"}  # devices with kernels; on other devices layers run torch's own convolutions
CONVOLUTIONS: dict[str, Callable] = {}  # references of the operators that are convolutions
library = Library("efficientconv", "DEF")
ops = torch.ops.efficientconv


def register(name: str, device: str, kernel: Callable) -> None:
    """Adds a device's kernel for an operator; <name>_backward are the gradients. Layers there take it from now on."""
    impl(f"efficientconv::{name}", device, kernel, lib=library)
    DEVICES.add(device)


def conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, wanted: Sequence[bool], stride: int = 1, padding: int = 0, groups: int = 1,
    transposed: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradients of x and of the weight of a convolution of batches, None where not wanted. Autograd may be off here."""
    convolve: Callable[..., Tensor] = F.conv_transpose2d if transposed else F.conv2d
    with torch.device("meta"):  # torch's convolution_backward checks no shapes and would read past the end
        like = [torch.empty(t.shape, dtype=t.dtype) for t in (x, weight)]
        y = convolve(*like, None, stride, padding, groups=groups)
    if y.shape != grad.shape or any((t.dtype, t.device) != (x.dtype, x.device) for t in (grad, weight)):
        raise RuntimeError(f"expected a gradient of {tuple(y.shape)} in {x.dtype}, got {tuple(grad.shape)} in {grad.dtype}")
    sizes = ([stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], groups)
    return torch.ops.aten.convolution_backward(grad, x, weight, None, *sizes, [*wanted, False])[:2]


def _norm_relu(
    y: Tensor, residual: Tensor | None, gamma: Tensor | None, beta: Tensor | None, mean: Tensor | None, var: Tensor | None,
    batches: Tensor | None, training: bool, momentum: float | None, eps: float,
) -> Tensor:  # fmt: skip
    """relu(nn.BatchNorm2d(y) + residual), or without the residual. Updates the running statistics."""
    if y.dim() != 4:
        raise ValueError(f"expected 4D input (got {y.dim()}D input)")
    if training and batches is not None:
        batches.add_(1)
        momentum = 1 / float(batches) if momentum is None else momentum
    own = training or mean is None and var is None
    y = F.batch_norm(y, mean, var, gamma, beta, own, momentum or 0.0, eps)
    return F.relu(y if residual is None else y + residual)


def _stem(
    x: Tensor, weight: Tensor, stride: int, padding: int, gamma: Tensor | None, beta: Tensor | None, mean: Tensor,
    var: Tensor, eps: float, pool: Sizes,
) -> Tensor:  # fmt: skip
    """max_pool(relu(batch norm(convolution))), for inference; pool: kernel, stride, padding."""
    y = F.relu(F.batch_norm(F.conv2d(x, weight, stride=stride, padding=padding), mean, var, gamma, beta, False, 0.0, eps))
    kernel, step, around = pool
    return F.max_pool2d(y, kernel, step, around)


# ---------------------------------------------------------------- registration


def in_order(y: Tensor, x: Tensor) -> Tensor:
    """y, contiguous or channels-last as x is: the memory format of the kernels' outputs."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return y.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def convolution(name: str, reference: Callable, gradients: Callable, weights: str, rest: str, kept: int = 0) -> None:
    """Registers an operator x, weights, rest -> y, its gradients, and the layer around it.

    Args:
        gradients: takes the gradient of y, x, the weights, the kept tensors, the rest, and `wanted`: which gradients of x
            and of the weights are computed; the others may be None.
        kept: number of tensors that `reference` returns after y, for the gradients.
    """
    CONVOLUTIONS[name] = reference
    tensors = 1 + weights.count("Tensor")
    whole, backward = f"efficientconv::{name}", f"{name}_backward"
    library.define(f"{name}(Tensor x, {weights}, {rest}) -> ({', '.join(['Tensor'] * (1 + kept))})")
    given = "".join(f", Tensor kept{i}" for i in range(kept))
    library.define(
        f"{backward}(Tensor grad, Tensor x, {weights}{given}, {rest}, bool[{tensors}] wanted) -> "
        f"({', '.join(['Tensor'] * tensors)})"
    )
    made = _Convolution(reference, gradients, getattr(ops, backward), tensors, kept)
    _implement(name, reference, "CompositeExplicitAutograd")
    _implement(backward, made.gradients_of, "CompositeExplicitAutograd")
    register_fake(whole, made.fake, lib=library)
    register_fake(f"{whole}_backward", made.fake_gradients, lib=library)
    register_autograd(whole, made.backward_of, setup_context=made.setup_context, lib=library)
    _layer(name, f"Tensor x, {weights}, {rest}")


class _Convolution(NamedTuple):
    """A convolution as tracers and autograd see it. `tensors`: the number of x and the weights, its first arguments."""

    reference: Callable
    gradients: Callable
    backward: Callable  # the operator of the gradients
    tensors: int
    kept: int

    def fake(self, x: Tensor, *args: Any) -> Any:
        found = self.reference(x, *args)
        if not self.kept:
            return in_order(found, x)
        return in_order(found[0], x), *(t.contiguous() for t in found[1:])

    def fake_gradients(self, grad: Tensor, x: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
        weights = args[: self.tensors - 1]
        found = in_order(torch.empty_like(x), x), *(torch.empty_like(w).contiguous() for w in weights)
        return tuple(g if wanted else None for g, wanted in zip(found, args[-1]))

    def gradients_of(self, grad: Tensor, x: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
        if x.dim() == 3:
            first, last = self.tensors - 1, self.tensors - 1 + self.kept
            kept = (t[None] for t in args[first:last])
            grad_x, *others = self.gradients_of(grad[None], x[None], *args[:first], *kept, *args[last:])
            return grad_x if grad_x is None else in_order(grad_x[0], x), *others
        grad_x, *others = (g if wanted else None for g, wanted in zip(self.gradients(grad, x, *args), args[-1]))
        return grad_x if grad_x is None else in_order(grad_x, x), *(g if g is None else g.contiguous() for g in others)

    def setup_context(self, ctx: Any, inputs: tuple, output: Any) -> None:
        kept = output[1:] if self.kept else ()
        ctx.save_for_backward(*inputs[: self.tensors], *kept)
        ctx.mark_non_differentiable(*kept)
        ctx.rest = inputs[self.tensors :]

    def backward_of(self, ctx: Any, grad: Tensor, *_: Any) -> tuple:
        wanted = ctx.needs_input_grad[: self.tensors]
        return (*self.backward(grad, *ctx.saved_tensors, *ctx.rest, wanted), *[None] * len(ctx.rest))


END = (
    "Tensor? residual, Tensor? gamma, Tensor? beta, Tensor(a!)? mean, Tensor(b!)? var, Tensor(c!)? batches, bool training, "
    "float? momentum, float eps"
)


def _implement(name: str, reference: Callable, key: str) -> None:
    library.impl(name, reference, key)
    library.impl(name, reference, "FuncTorchBatched")  # torch.vmap


def _composite(schema: str, reference: Callable) -> None:
    library.define(schema)
    _implement(schema.partition("(")[0], reference, "CompositeImplicitAutograd")


def _layer(name: str, arguments: str) -> None:
    """Defines <name>_layer: the operator, then norm_relu."""
    of = len(arguments.split(","))

    def reference(*args: Any) -> Tensor:
        y = getattr(ops, name)(*args[:of])
        return ops.norm_relu(y[0] if isinstance(y, tuple) else y, *args[of:])

    _composite(f"{name}_layer({arguments}, {END}) -> Tensor", reference)


_composite(f"norm_relu(Tensor y, {END}) -> Tensor", _norm_relu)
_composite(
    "stem(Tensor x, Tensor weight, int stride, int padding, Tensor? gamma, Tensor? beta, Tensor mean, Tensor var, "
    "float eps, int[] pool) -> Tensor",
    _stem,
)
_composite("max_pool(Tensor x, int[] pool) -> Tensor", lambda x, pool: F.max_pool2d(x, *pool))

# For freezing.py, on the CPU only: layers whose weights contain batch norm, and the weights that frozen_layer wants.
library.define("frozen_weight(Tensor weight, Tensor scale, int inputs, int[] dims, int[] connections, str anchor) -> Tensor")
library.define(
    "frozen_layer(Tensor x, Tensor? residual, Tensor? filters, Tensor weight, Tensor bias, int kernel, int[] dims, "
    "int[] connections, str anchor) -> Tensor"
)
library.define(
    "frozen_spatial_bottleneck(Tensor x, Tensor? residual, Tensor reduction, Tensor projection, Tensor expansion, "
    "Tensor bias, int stride, int padding) -> Tensor"
)


@register_fake("efficientconv::frozen_weight", lib=library)
def _fake_weight(weight: Tensor, scale: Tensor, inputs: int, dims: Sizes, *rest: Any) -> Tensor:
    return weight.new_empty(get_ctx().new_dynamic_size() if dims else weight.shape)  # the kernels' order has gaps


@register_fake("efficientconv::frozen_layer", lib=library)
def _fake_layer(x: Tensor, residual: Any, filters: Any, weight: Tensor, bias: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape[0], bias.shape[0], *x.shape[2:])


@register_fake("efficientconv::frozen_spatial_bottleneck", lib=library)
def _fake_spatial(x: Tensor, residual: Any, reduction: Tensor, projection: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape[0], projection.shape[0], *x.shape[2:])
