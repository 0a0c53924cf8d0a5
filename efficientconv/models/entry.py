"""Runs a network's first layer (in inference) and its max pools by native kernels, and chooses the maps' memory format.

PyTorch is slow in convolutions of three channels and in pools of contiguous maps. The map between the two is the largest of
the network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from efficientconv.layers.backend import (
    are_plain,
    is_called_plainly,
    is_inference,
    norm_of,
    runs_kernels,
    runs_operator,
    takes_norm,
)  # fmt: skip
from efficientconv.layers.base import ConvLayer
from efficientconv.layers.operators import ops

Window = tuple[int, int, int]  # kernel, stride, padding of a max pool
NO_POOL: Window = (1, 1, 0)
MAX_CHANNELS = 4  # of the images; with more channels PyTorch's convolution is fast


def stem_and_pool(stem: ConvLayer, pool: nn.Module, x: Tensor) -> Tensor:
    """pool(stem(x)): images B x C x H x W -> B x m x .. x .., in one pass if a kernel applies."""
    if not takes_stem_kernel(stem, x):
        return max_pool(pool, stem(x))
    window = window_of(pool)
    conv: Any = stem.conv
    gamma, beta, mean, var, *_, eps = norm_of(stem.bn)
    y = ops.stem(
        x.contiguous(), conv.weight, conv.stride[0], conv.padding[0], gamma, beta, mean, var, eps, window or NO_POOL
    )  # fmt: skip
    return y if window else pool(y)


def max_pool(pool: nn.Module, x: Tensor) -> Tensor:
    window = window_of(pool)
    return pool(x) if window is None or not runs_kernels(pool, x) else ops.max_pool(x, window)


def takes_stem_kernel(stem: nn.Module, x: Tensor) -> bool:
    """Whether the stem's kernel, which reads contiguous images, applies."""
    conv, bn = getattr(stem, "conv", None), getattr(stem, "bn", None)
    return (
        type(conv) is nn.Conv2d and not stem.residual and takes_norm(bn) and not bn.training and bn.running_mean is not None
        and conv.in_channels <= MAX_CHANNELS and conv.groups == 1 and conv.bias is None and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros" and all(len(set(s)) == 1 for s in (conv.kernel_size, conv.stride, conv.padding))
        and runs_kernels(stem, x) and x.dim() == 4 and are_plain([stem])
        and is_inference(x, *stem.parameters())
    )  # fmt: skip


def run_layers(layers: nn.Sequential, transition: nn.Module, x: Tensor) -> Tensor:
    """layers(transition(x)), in the memory format and the type of the kernels if they run `layers`.

    Kernels read and write contiguous maps in float32. Under autocast each layer would round its maps to bfloat16, for the
    next layer to make them float32 again.
    """
    autocast = torch.is_autocast_enabled("cpu")
    if type(x) is not Tensor or x.is_contiguous() and not autocast or not _runs_operators(layers[0], x):
        return layers(transition(x))
    x = x if x.is_contiguous() else _Contiguous.apply(x)
    if not autocast or not _stay_in_float32([*layers, transition], x):
        return layers(transition(x))
    with torch.autocast("cpu", enabled=False):
        return layers(transition(x.float()))


def _stay_in_float32(modules: list[nn.Module], x: Tensor) -> bool:
    """Whether none of `modules` would compute in autocast's type: kernels run all layers, and all weights are in float32."""
    own = all(_runs_operators(module, x) for module in modules if not isinstance(module, nn.Identity))
    return own and all(p.dtype == torch.float32 for module in modules for p in module.parameters())


def _runs_operators(layer: nn.Module, x: Tensor) -> bool:
    return isinstance(layer, ConvLayer) and runs_operator(layer, x, layer.conv)


class _Contiguous(Function):
    """Makes maps contiguous. Gradients go back channels-last: the layer before is slow with gradients of another format."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """torch.func wants it, though nothing is kept."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # many gradients at once take no memory_format


def window_of(pool: nn.Module) -> Window | None:
    """The window of a max pool over squares; None for another kind of pool, or for one with hooks or another forward."""
    if type(pool) is not nn.MaxPool2d or pool.ceil_mode or pool.return_indices or pool.dilation not in (1, (1, 1)):
        return None
    kernel, stride, padding = pool.kernel_size, pool.stride, pool.padding
    if isinstance(kernel, int) and isinstance(stride, int) and isinstance(padding, int) and is_called_plainly(pool):
        return kernel, stride, padding
    return None
