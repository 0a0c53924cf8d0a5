"""Which implementation a layer runs: its operator (operators.py), or the reference, which is the layer's own modules.

    model = set_backend(create_model("i", num_classes=1000), "reference")

All backends have the same parameters and results. `auto` is the default: it takes the operator on devices with kernels for
the layer, on maps where the kernels were measured to be no slower. `native` takes the operator for all maps, and refuses to
start where the CPU's kernels cannot be built. `triton` takes layers in Triton (efficientconv.fused) on a GPU, and the
reference for layers without a form in Triton.

An operator stands for whole modules. If one of these modules has hooks, another class, another forward or a weight of a
special class, the modules run instead.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._ops import OpOverload

from efficientconv.errors import UserError, did_you_mean, refuse_frozen
from efficientconv.layers.operators import DEVICES, Norm
from efficientconv.layers.watchers import constant, has_global_hooks
from efficientconv.native import build

BACKENDS = ("auto", "reference", "native", "triton")
TRITON_TYPES = (torch.float32, torch.bfloat16, torch.float16)
Forward = TypeVar("Forward", bound=Callable)


def set_backend(model: nn.Module, backend: str) -> nn.Module:
    """Sets the backend, one of BACKENDS, of all layers of `model`, and returns `model`. Checkpoints do not store it.

    Raises:
        UserError: an unknown backend; native where the kernels cannot be built or loaded (the message says why); triton
            where there is no Triton or no GPU; a network that `freeze` made.
    """
    if backend not in BACKENDS:
        raise UserError(f"layers.backend={backend}: {did_you_mean(backend, BACKENDS)}")
    if backend == "native" and (error := build.failure()):
        raise UserError(f"layers.backend=native: {error}; or choose auto or reference")
    if backend == "triton" and (missing := _missing_for_triton()):
        raise UserError(f"layers.backend=triton: {missing}; choose auto or reference")
    refuse_frozen(model, "given another backend")
    modules: Iterable[Any] = model.modules()  # torch declares attributes as tensors and modules
    for module in modules:
        module.layer_backend = backend
    return model


def compile_kernels(model: nn.Module) -> None:
    """Compiles the kernels now if a layer of a model on the CPU may take them: else the first step waits for that."""
    modules = (module for module in model.modules() if hasattr(type(module), "layer_backend"))
    if any(module.layer_backend in ("auto", "native") for module in modules):
        build.available()


class HasOperator(nn.Module):
    """A convolution with an operator."""

    layer_backend = "auto"
    operators: tuple[OpOverload, OpOverload]  # the convolution, and the layer around it
    has_triton_layer = False

    def takes_operator(self, x: Tensor) -> bool:
        """Whether the operator computes what the layer's modules compute. Under auto: also whether it is as fast for x."""
        return False

    def operator_arguments(self) -> tuple[Any, ...]:
        """The operators' arguments after x. They are read from torch's own dicts: attributes of modules are slow."""
        raise NotImplementedError

    def operator(self, x: Tensor) -> Tensor:
        return self.operators[0](x, *self.operator_arguments())

    def layer_operator(self, x: Tensor, residual: Tensor | None, norm: Norm) -> Tensor:
        """relu(batch norm(convolution) + residual), or without the residual."""
        return self.operators[1](x, *self.operator_arguments(), residual, *norm)

    def triton_layer(self, x: Tensor, residual: Tensor | None, norm: Norm) -> Tensor:
        """`layer_operator` in Triton, if `has_triton_layer`."""
        raise NotImplementedError


# The forwards that an operator may stand for; stands_for adds those of the layers. A subclass may replace a part of them.
_parts = {None, nn.Conv2d._conv_forward, nn.ConvTranspose2d._conv_forward}
_forwards: set[Callable] = {nn.Conv2d.forward, nn.ConvTranspose2d.forward, nn.BatchNorm2d.forward, nn.Linear.forward}


def stands_for(forward: Forward) -> Forward:
    """Decorator of a module's `forward`: an operator of this module, or of one around it, may run in place of it."""
    _forwards.add(forward)
    return forward


def runs_operator(module: nn.Module, x: Tensor, conv: nn.Module | None = None) -> bool:
    """Whether the operator runs `module` for the input x. `module` is around the convolution `conv`, or is one (None)."""
    conv = module if conv is None else conv
    return (
        isinstance(conv, HasOperator) and runs_kernels(module, x) and x.dim() == 4 and is_plain_inside(module)
        and conv.takes_operator(x)
    )  # fmt: skip


def is_plain_inside(module: nn.Module) -> bool:
    """Whether `module` has plain weights, and all modules inside it are plain."""
    return _have_plain_weights(module) and are_plain(module._modules.values())


def runs_kernels(module: nn.Module, x: Tensor) -> bool:
    """Whether `module` may run kernels of x's device. An exported program may not: it also runs without this package."""
    return (
        getattr(module, "layer_backend", "auto") in ("auto", "native") and type(x) is Tensor and x.device.type in DEVICES
        and (not x.is_cpu or _has_kernels()) and not torch.compiler.is_exporting() and not torch.jit.is_tracing()
    )  # fmt: skip


def runs_triton(layer: nn.Module, x: Tensor, conv: HasOperator, bn: nn.BatchNorm2d) -> bool:
    """Whether Triton runs `layer`, which is around `conv` and `bn`, for the input x."""
    return (
        layer.layer_backend == conv.layer_backend == "triton" and conv.has_triton_layer and type(x) is Tensor
        and (x.is_cuda or _interprets_triton()) and x.dim() == 4 and x.dtype in TRITON_TYPES and bn.affine
        and is_plain_inside(layer) and conv.takes_operator(x)
    )  # fmt: skip


def are_plain(modules: Iterable[nn.Module | None]) -> bool:
    """Whether `modules` and the modules inside them have the known forwards, plain weights and no hooks."""
    return not has_global_hooks() and _are_plain(modules)


def takes_norm(bn: object) -> bool:
    """Whether `bn` is a batch norm as `norm_of` reads it."""
    return type(bn) is nn.BatchNorm2d and (bn.track_running_stats or bn._buffers.get("running_mean") is None)


def norm_of(bn: nn.BatchNorm2d) -> Norm:
    """`bn` as an operator's arguments. They are read from torch's own dicts: attributes are slow."""
    p, b = bn._parameters, bn._buffers
    return (
        p["weight"], p["bias"], b["running_mean"], b["running_var"], b["num_batches_tracked"], bn.training, bn.momentum,
        bn.eps,
    )  # fmt: skip


def is_inference(x: Tensor, *parameters: Tensor) -> bool:
    """Whether no gradient is needed."""
    return not torch.is_grad_enabled() or not (x.requires_grad or any(p.requires_grad for p in parameters))


def is_fast_autocast() -> bool:
    """Whether convolutions on the CPU now compute in bfloat16, and the processor is fast at it."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16 and multiplies_bfloat16()


@constant
def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16. Without them PyTorch is slower in bfloat16 than in float32."""
    has = torch.cpu.get_capabilities()
    return any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # Intel and AMD, Intel, ARM


def is_called_plainly(module: nn.Module) -> bool:
    """Whether a call of `module` runs the forward of its class and nothing else: no hooks, no other forward."""
    return not (has_global_hooks() or has_hooks(module) or "forward" in module.__dict__)


def has_hooks(module: nn.Module) -> bool:
    """Whether `module` has hooks, forward or backward."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)


def _have_plain_weights(module: nn.Module) -> bool:
    for p in module._parameters.values():
        if p is not None and type(p) is not nn.Parameter:
            return False
    return True


def _are_plain(modules: Iterable[nn.Module | None]) -> bool:
    """The loop is plain, because module.modules() takes longer than the kernels on small maps."""
    for inner in modules:
        if inner is None:
            continue
        own, kind = inner.__dict__, type(inner)
        if kind.forward not in _forwards or "forward" in own or own.get("layer_backend") == "reference":
            return False
        if getattr(kind, "_conv_forward", None) not in _parts:
            return False
        if has_hooks(inner) or own["_parameters"] and not _have_plain_weights(inner):
            return False
        if own["_modules"] and not _are_plain(own["_modules"].values()):
            return False
    return True


def _missing_for_triton() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install triton; it is for Linux)"
    if not (torch.cuda.is_available() or _interprets_triton()):
        return "torch finds no CUDA device"
    return None


def _interprets_triton() -> bool:
    """Whether Triton's interpreter runs the kernels on a CPU: slowly, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@constant
def _has_kernels() -> bool:
    return build.available()
