"""Which implementation a layer runs: its operator (operators.py) or the modules that it is made of, the reference.

    model = set_backend(create_model("i", num_classes=1000), "reference")

Same parameters, same results. `auto`, what every layer starts with, takes the operator on devices that have kernels for it,
for maps on which they were measured to be no slower. `native` takes it for all maps, and refuses to start where the CPU's
kernels cannot be built.

An operator stands for whole modules. Where someone has put hooks, another class, another forward or a weight of a class of
its own on one of those, they run themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from efficientconv.errors import UserError, did_you_mean
from efficientconv.layers.operators import DEVICES, Norm
from efficientconv.native import build

BACKENDS = ("auto", "reference", "native")
Forward = TypeVar("Forward", bound=Callable)


def set_backend(model: nn.Module, backend: str) -> nn.Module:
    """`model`, each of whose layers now runs `backend`: auto, reference or native. Checkpoints know nothing of it.

    Raises:
        UserError: another name; native where the kernels cannot be built or loaded (the message says why).
    """
    if backend not in BACKENDS:
        raise UserError(f"layers.backend={backend}: {did_you_mean(backend, BACKENDS)}")
    if backend == "native" and (error := build.failure()):
        raise UserError(f"layers.backend=native: {error}; or choose auto or reference")
    for module in model.modules():
        module.layer_backend = backend
    return model


def compile_kernels(model: nn.Module) -> None:
    """Now, if a layer of a model on the CPU may take them: else its first step waits for the compiler."""
    if any(hasattr(type(module), "layer_backend") and module.layer_backend != "reference" for module in model.modules()):
        build.available()


class HasOperator:
    """What a convolution says of its operator, beside nn.Module."""

    layer_backend = "auto"
    float32_under_autocast = False

    def takes_operator(self, x: Tensor) -> bool:
        """Whether its sizes are those of the operator, and, under auto, whether kernels for maps like x pay."""
        return False

    def operator(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def layer_operator(self, x: Tensor, residual: Tensor | None, norm: Norm) -> Tensor:
        """relu(batch norm of it + residual), or without the residual."""
        raise NotImplementedError


# What an operator computes is what these compute; stands_for adds those of the layers.
_forwards: set[Callable] = {nn.Conv2d.forward, nn.ConvTranspose2d.forward, nn.BatchNorm2d.forward}


def stands_for(forward: Forward) -> Forward:
    """Decorator of a module's `forward` in whose place an operator may run, also from around the module."""
    _forwards.add(forward)
    return forward


def runs_operator(module: nn.Module, x: Tensor, conv: nn.Module | None = None) -> bool:
    """Whether `module`, around its convolution `conv` or a convolution itself, is left to the operator for the input x."""
    conv = module if conv is None else conv
    return (
        runs_kernels(module, x) and x.dim() == 4
        and (conv.float32_under_autocast or not torch.is_autocast_enabled(x.device.type)) and conv.takes_operator(x)
        and is_plain_inside(module)
    )  # fmt: skip


def is_plain_inside(module: nn.Module) -> bool:
    """Whether nobody wants to see or to change what the modules inside `module` do, and its weights are plain ones."""
    return _have_plain_weights(module) and are_plain(module._modules.values())


def runs_kernels(module: nn.Module, x: Tensor) -> bool:
    """Whether `module` may run kernels of x's device, if it has any."""
    return (
        getattr(module, "layer_backend", "auto") != "reference" and type(x) is Tensor and x.device.type in DEVICES
        and (not x.is_cpu or _has_kernels())
    )  # fmt: skip


def are_plain(modules: Iterable[nn.Module | None]) -> bool:
    """Whether nobody wants to see or to change what these and the modules inside them do."""
    return not _has_any_global_hook() and _are_plain(modules)


def takes_norm(bn: nn.Module) -> bool:
    """Whether `bn` is a batch norm as `norm_of` reads it."""
    return type(bn) is nn.BatchNorm2d and (bn.track_running_stats or bn._buffers.get("running_mean") is None)


def norm_of(bn: nn.BatchNorm2d) -> Norm:
    """Batch norm as operators have it. Read where torch keeps it: attributes are slow."""
    p, b = bn._parameters, bn._buffers
    return (
        p["weight"], p["bias"], b["running_mean"], b["running_var"], b["num_batches_tracked"], bn.training, bn.momentum,
        bn.eps,
    )  # fmt: skip


def is_inference(x: Tensor, *parameters: Tensor) -> bool:
    """Whether no gradient will be asked for."""
    return not torch.is_grad_enabled() or not (x.requires_grad or any(p.requires_grad for p in parameters))


def has_hooks(module: nn.Module) -> bool:
    """Whether someone wants to see what goes in and comes out."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)


def _have_plain_weights(module: nn.Module) -> bool:
    for p in module._parameters.values():
        if p is not None and type(p) is not nn.Parameter:
            return False
    return True


def _are_plain(modules: Iterable[nn.Module | None]) -> bool:
    """In a plain loop: going through module.modules() takes longer than the kernels on small maps."""
    for inner in modules:
        if inner is None:
            continue
        own = inner.__dict__
        if type(inner).forward not in _forwards or "forward" in own or own.get("layer_backend") == "reference":
            return False
        if has_hooks(inner) or own["_parameters"] and not _have_plain_weights(inner):
            return False
        if own["_modules"] and not _are_plain(own["_modules"].values()):
            return False
    return True


@torch.compiler.assume_constant_result
def _has_kernels() -> bool:
    return build.available()
