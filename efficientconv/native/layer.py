"""Whole layers on the native kernels, batch norm, residual and ReLU included, in few passes over memory.

A convolution that has kernels offers `native()`, its form without parameters, and `native_params()`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from efficientconv.native.convolutions import Epilogue
from efficientconv.native.functions import BatchNormReLU, Layer, convolve


def run_conv(conv: nn.Module, x: Tensor) -> Tensor:
    return convolve(conv.native(), x, *conv.native_params())


def run_layer(conv: nn.Module, bn: nn.BatchNorm2d, x: Tensor, add_x: bool) -> Tensor:
    """relu(bn(conv(x)) + x), or without the + x."""
    x = _Contiguous.apply(x) if is_channels_last(x) else x.contiguous()
    if bn.training or bn.running_mean is None:
        return _train(conv, bn, x, add_x)
    if not is_inference(x, conv, bn):
        return _plain_end(bn(conv(x)), x, add_x)
    scale, bias = fold(bn)
    epilogue = Epilogue(scale, bias, x if add_x else None, relu=True)
    if hasattr(conv, "native_infer"):
        return conv.native_infer(x, epilogue)
    return conv.native().infer(x, tuple(p.detach().contiguous() for p in conv.native_params()), epilogue)


class _Contiguous(Function):
    """Of channels-last maps, whose gradients go back channels-last: what made them is slow on gradients of another order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.contiguous(memory_format=torch.channels_last)


def is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def is_inference(x: Tensor, *modules: nn.Module) -> bool:
    """Whether no gradient will be asked for."""
    if not torch.is_grad_enabled():
        return True
    return not x.requires_grad and not any(p.requires_grad for module in modules for p in module.parameters())


@torch.no_grad()
def fold(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(scale, bias) of batch norm with its running statistics, m each."""
    return torch.ops.efficientconv.fold(bn.running_mean, bn.running_var, bn.weight, bn.bias, bn.eps)


def _plain_end(y: Tensor, x: Tensor, add_x: bool) -> Tensor:
    return F.relu(y + x if add_x else y)


def _train(conv: nn.Module, bn: nn.BatchNorm2d, x: Tensor, add_x: bool) -> Tensor:
    count = x.numel() // x.shape[1]
    if count == 1 and bn.training or bn.weight is None:  # torch's own says what is wrong, or does without weights
        return _plain_end(bn(conv(x)), x, add_x)
    if hasattr(conv, "native"):
        params = (p.contiguous() for p in conv.native_params())
        out, mean, var = Layer.apply(conv.native(), bn.eps, add_x, x, bn.weight, bn.bias, *params)
    else:
        out, mean, var = BatchNormReLU.apply(bn.eps, conv(x).contiguous(), x if add_x else None, bn.weight, bn.bias)
    if bn.training and bn.track_running_stats:
        _update_running(bn, mean, var * (count / (count - 1)))
    return out


@torch.no_grad()
def _update_running(bn: nn.BatchNorm2d, mean: Tensor, var: Tensor) -> None:
    """What nn.BatchNorm2d does in training: a moving average, or with momentum None the average of all batches."""
    bn.num_batches_tracked.add_(1)
    share = bn.momentum if bn.momentum is not None else 1 / float(bn.num_batches_tracked)
    bn.running_mean.lerp_(mean, share)
    bn.running_var.lerp_(var, share)
