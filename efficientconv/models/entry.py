"""The first layer and the max pools of a network on the native kernels, for inference.

The library takes its time over convolutions of three channels and over pools of contiguous maps, and the map between the
two is the largest of the network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from efficientconv.layers.backend import has_hooks, runs_native, takes_norm
from efficientconv.layers.base import ConvLayer
from efficientconv.native.layer import is_inference, running_norm
from efficientconv.native.plan import stem_plans

Window = tuple[int, int, int]  # kernel, stride, padding of a max pool
NO_POOL: Window = (1, 1, 0)
MAX_CHANNELS = 4  # of the images: with more the library's convolution is fast


def stem_and_pool(stem: ConvLayer, pool: nn.Module, x: Tensor) -> Tensor:
    """pool(stem(x)): images B x C x H x W -> B x m x .. x .., in one pass where kernels for it apply."""
    if not takes_stem_kernel(stem, x):
        return max_pool(pool, stem(x))
    fused = _window(pool, _outputs(stem.conv, x)) if not has_hooks(pool) else None
    y = run_stem(stem.conv, stem.bn, x, fused or NO_POOL)
    return y if fused else pool(y)


def takes_stem_kernel(stem: nn.Module, x: Tensor) -> bool:
    """Which reads contiguous images."""
    return type(x) is Tensor and _has_stem_kernel(stem, x) and runs_native(stem, x)


def max_pool(pool: nn.Module, x: Tensor) -> Tensor:
    if type(x) is not Tensor:
        return pool(x)
    window = _window(pool, x.shape[-2:])
    if window is None or not x.is_contiguous() or has_hooks(pool) or not runs_native(pool, x):
        return pool(x)
    if is_inference(x):
        return torch.ops.efficientconv.max_pool(x, window)
    return pool(x.contiguous(memory_format=torch.channels_last))  # which the library pools by vectors


def run_stem(conv: nn.Conv2d, bn: nn.BatchNorm2d, x: Tensor, pool: Window) -> Tensor:
    """max_pool(relu(bn(conv(x)))), for inference."""
    plans = stem_plans(conv.in_channels, conv.out_channels, conv.kernel_size[0])
    return torch.ops.efficientconv.stem(
        x.contiguous(), conv.weight.contiguous(), conv.stride[0], conv.padding[0], plans.forward, plans.outputs,
        running_norm(bn), bn.eps, pool,
    )  # fmt: skip


def _has_stem_kernel(stem: nn.Module, x: Tensor) -> bool:
    conv, bn = getattr(stem, "conv", None), getattr(stem, "bn", None)
    return (
        type(conv) is nn.Conv2d and not stem.residual and not has_hooks(stem) and takes_norm(bn, conv.out_channels)
        and conv.in_channels <= MAX_CHANNELS and conv.groups == 1 and conv.bias is None and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros" and all(len(set(s)) == 1 for s in (conv.kernel_size, conv.stride, conv.padding))
        and not bn.training and bn.running_mean is not None and is_inference(x, stem)
        and conv.weight.shape == (conv.out_channels, conv.in_channels, *conv.kernel_size)
        and conv.stride[0] > 0 and conv.padding[0] >= 0
        and x.dim() == 4 and x.shape[1] == conv.in_channels and min(_outputs(conv, x)) > 0
    )  # fmt: skip


def _outputs(conv: nn.Conv2d, x: Tensor) -> tuple[int, int]:
    """Rows and columns of what a convolution by squares makes of x."""
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    h, w = x.shape[-2:]
    return (h + 2 * padding - kernel) // stride + 1, (w + 2 * padding - kernel) // stride + 1


def _window(pool: nn.Module, maps: tuple[int, int]) -> Window | None:
    """Of a max pool over squares of maps of so many rows and columns; None: another kind of pool, or a wrong one."""
    if type(pool) is not nn.MaxPool2d or pool.ceil_mode or pool.return_indices or pool.dilation not in (1, (1, 1)):
        return None
    sizes = (pool.kernel_size, pool.stride, pool.padding)
    if not all(isinstance(size, int) for size in sizes):
        return None
    kernel, stride, padding = sizes
    return sizes if stride > 0 and 0 <= 2 * padding <= kernel <= 2 * padding + min(maps) else None
