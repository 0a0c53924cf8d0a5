"""Which implementation a layer runs: the native kernels or plain PyTorch, the reference. Same parameters, same results.

    model = set_backend(create_model("i", num_classes=1000), "reference")

`auto`, what every layer starts with, takes the native kernels wherever they apply and pay: float32 on the CPU, outside
torch.compile, function transforms, forward-mode differentiation and anything that records operations, for maps on which
they were measured to be no slower. `native` takes them for all maps, and refuses to start where they cannot be built.
Gradients of gradients need `reference`.

Kernels stand for whole modules. Where someone has put hooks, another class or another forward on one of those, the
reference runs them.

Under autocast a convolution that says `float32_under_autocast` stays in float32 on its kernels, which were measured to be
faster than the reference in bfloat16; everything else is autocast as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook

from efficientconv.errors import UserError, did_you_mean
from efficientconv.native import build
from efficientconv.native.convolutions import Convolution, Epilogue

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


class WithKernels:
    """What a module says of its native kernels, beside nn.Module.

    In training they are `native()` around `native_params()`, in inference `native_infer`. All has a default, also because
    torch takes its time over an attribute that a module lacks.
    """

    layer_backend = "auto"
    float32_under_autocast = False

    def takes_kernels(self, x: Tensor) -> bool:
        """Whether there are kernels for a layer around this convolution and maps like x, on whichever backend."""
        return True

    def kernels_pay(self, x: Tensor) -> bool:
        """Whether auto takes them."""
        return True

    def kernels_fit(self) -> bool:
        """Whether sizes and weights are those of the kernels: stride, dilation and bias may differ, weights be others'."""
        raise NotImplementedError

    def native(self) -> Convolution | None:
        """The convolution without its parameters; None: only `native_infer`, its own, and batch norm's kernels."""
        return None

    def native_params(self) -> tuple[Tensor, ...]:
        return ()

    def native_infer(self, x: Tensor, epilogue: Epilogue) -> Tensor:
        return self.native().infer(x, tuple(p.contiguous() for p in self.native_params()), epilogue)


# What the kernels compute is what these compute; with_kernels adds those of the layers.
_forwards: set[Callable] = {nn.Conv2d.forward, nn.ConvTranspose2d.forward, nn.BatchNorm2d.forward}


def with_kernels(forward: Forward) -> Forward:
    """Decorator of a module's `forward` in whose place kernels may run, also from around the module."""
    _forwards.add(forward)
    return forward


def runs_native(module: nn.Module, x: Tensor, *inside: nn.Module) -> bool:
    """Whether `module` takes the native kernels for the input x, B x n x H x W.

    inside: those of its modules for which they stand; none named: all.
    """
    return (
        getattr(module, "layer_backend", "auto") != "reference"
        and _plain_cpu_maps(module, x)
        and not _watched()
        and (not isinstance(module, WithKernels) or _takes(module, x))
        and _plain_parameters(module)
        and _plain_modules(inside or module._modules.values())
        and build.available()
    )


def has_kernels(conv: nn.Module, x: Tensor) -> bool:
    """Whether there are kernels for a layer around `conv` at all, worth taking for inputs like x."""
    if type(x) is not Tensor or x.dim() != 4 or torch.compiler.is_compiling():  # a tracer's sizes may not be asked for
        return False
    return isinstance(conv, WithKernels) and conv.takes_kernels(x) and _takes(conv, x)


def _takes(conv: WithKernels, x: Tensor) -> bool:
    """Whether maps, B x n x H x W, and weights fit each other; else torch's own operators say what is wrong.

    Under auto, a layer may also leave to PyTorch what PyTorch was measured to do faster.
    """
    backend = conv.layer_backend
    wanted = backend == "native" or backend == "auto" and conv.kernels_pay(x)
    return wanted and x.shape[1] == conv.in_channels and conv.kernels_fit()


def own_weights(*modules: nn.Module) -> tuple[Tensor | None, ...]:
    """Read where torch keeps them, since its attributes take their time. None: a weight that is computed, parametrized."""
    return tuple([module._parameters.get("weight") for module in modules])


def have_shapes(tensors: tuple[Tensor | None, ...], *shapes: tuple[int, ...]) -> bool:
    for t, shape in zip(tensors, shapes):
        if t is None or t.shape != shape:
            return False
    return True


def takes_norm(bn: nn.Module, channels: int) -> bool:
    """Whether `bn` is a batch norm of as many channels, without tensors that are torch's own to refuse."""
    if type(bn) is not nn.BatchNorm2d:
        return False
    get, size = bn._buffers.get, (channels,)
    mean, var, batches = get("running_mean"), get("running_var"), get("num_batches_tracked")
    for p in bn._parameters.values():
        if p is not None and p.shape != size:
            return False
    if mean is None or var is None or batches is None:
        return mean is None and var is None and batches is None
    plain = mean.dtype == var.dtype == torch.float32 and batches.dtype == torch.int64
    return plain and mean.shape == size and var.shape == size


def _plain_cpu_maps(module: nn.Module, x: Tensor) -> bool:
    if type(x) is not Tensor or not x.is_cpu or x.dim() != 4 or x.numel() == 0:
        return False
    if not torch.is_autocast_enabled("cpu"):
        return x.dtype == torch.float32
    return _keeps_float32(module) and x.dtype in (torch.float32, torch.bfloat16, torch.float16)


def _keeps_float32(module: nn.Module) -> bool:
    return getattr(getattr(module, "conv", module), "float32_under_autocast", False)


def _plain_parameters(module: nn.Module) -> bool:
    """Its own ones."""
    for p in module._parameters.values():
        if p is not None and not (type(p) is nn.Parameter and p.dtype == torch.float32 and p.is_cpu):
            return False
    return True


def _plain_modules(modules: Iterable[nn.Module | None]) -> bool:
    """In a plain loop: going through module.modules() takes longer than the kernels on small maps."""
    for inner in modules:
        if inner is None:
            continue
        own = inner.__dict__
        if type(inner).forward not in _forwards or "forward" in own or own.get("layer_backend") == "reference":
            return False
        if has_hooks(inner) or own["_parameters"] and not _plain_parameters(inner):
            return False
        if own["_modules"] and not _plain_modules(own["_modules"].values()):
            return False
    return True


def _watched() -> bool:
    """Whether something is at work that the native path would pass by: a tracer, a recorder, tangents, global hooks."""
    return (
        torch.compiler.is_compiling()
        or _has_any_global_hook()
        or forward_ad._current_level >= 0
        or torch.jit.is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def has_hooks(module: nn.Module) -> bool:
    """Whether someone wants to see what goes in and comes out."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)
