"""Whole layers on the native kernels, batch norm, residual and ReLU included, in few passes over memory.

A convolution that has kernels says so as layers/backend.py's `WithKernels` does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from efficientconv.native import build
from efficientconv.native.convolutions import BatchNorm, Epilogue


def run_conv(conv: nn.Module, x: Tensor) -> Tensor:
    return conv.native().train(x.float(), conv.native_params())


def run_layer(conv: nn.Module, bn: nn.BatchNorm2d, x: Tensor, add_x: bool) -> Tensor:
    """relu(bn(conv(x)) + x), or without the + x."""
    x = x.float()  # under autocast what came before may not be
    x = _Contiguous.apply(x) if is_channels_last(x) else x.contiguous()
    if bn.training or bn._buffers["running_mean"] is None:
        return _train(conv, bn, x, add_x)
    if not is_inference(x, conv, bn):
        return _plain_end(bn(conv(x)), x if add_x else None)
    return conv.native_infer(x, Epilogue(running_norm(bn), bn.eps, x if add_x else None, relu=True))


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


def running_norm(bn: nn.BatchNorm2d) -> tuple[Tensor | None, ...]:
    """Batch norm with its running statistics, as an epilogue has it. Read where torch keeps them: attributes are slow."""
    buffers, parameters = bn._buffers, bn._parameters
    return buffers["running_mean"], buffers["running_var"], parameters["weight"], parameters["bias"]


def normalise(bn: nn.BatchNorm2d, y: Tensor, residual: Tensor | None) -> Tensor:
    """relu(bn(y) + residual) in training, behind a convolution of the library's, in the order in which y is."""
    order = map_order(y)
    if not y.is_contiguous(memory_format=order) or order == torch.channels_last and y.shape[1] % build.lanes():
        return _plain_end(bn(y), residual)
    return _normalise(bn, y, None if residual is None else residual.float().contiguous(memory_format=order))


def map_order(y: Tensor) -> torch.memory_format:
    """Of maps that are contiguous or channels-last; some are both."""
    return torch.contiguous_format if y.is_contiguous() else torch.channels_last


def _plain_end(y: Tensor, residual: Tensor | None) -> Tensor:
    return F.relu(y if residual is None else y + residual)


def _train(conv: nn.Module, bn: nn.BatchNorm2d, x: Tensor, add_x: bool) -> Tensor:
    residual, convolution = x if add_x else None, conv.native()
    if convolution is None:
        return _normalise(bn, conv(x).float().contiguous(), residual)
    if not _takes_statistics(bn, x):
        return _plain_end(bn(conv(x)), residual)
    norm = BatchNorm(*running_norm(bn)[2:], bn.eps)
    return _with_statistics(bn, x, *convolution.train_layer(x, conv.native_params(), norm, add_x))


def _normalise(bn: nn.BatchNorm2d, y: Tensor, residual: Tensor | None) -> Tensor:
    if not _takes_statistics(bn, y):
        return _plain_end(bn(y), residual)
    return _with_statistics(bn, y, *torch.ops.efficientconv.norm_layer(y, residual, bn.weight, bn.bias, bn.eps))


def _takes_statistics(bn: nn.BatchNorm2d, maps: Tensor) -> bool:
    """Else torch's own says what is wrong, or does without weights."""
    parameters = bn._parameters
    return parameters["weight"] is not None and parameters["bias"] is not None and (positions(maps) > 1 or not bn.training)


def positions(maps: Tensor) -> int:
    return maps.numel() // maps.shape[1]


def _with_statistics(bn: nn.BatchNorm2d, maps: Tensor, out: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """`out`, and in training the running statistics as nn.BatchNorm2d keeps them, from the batch's own."""
    if bn.training and bn.track_running_stats:
        torch.ops.efficientconv.track_statistics(
            mean, var, positions(maps), bn.momentum, *running_norm(bn)[:2], bn._buffers["num_batches_tracked"]
        )
    return out
