"""The native kernels as functions that autograd knows, on contiguous float32 tensors on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from efficientconv.native.convolutions import BatchNorm, Convolution, Gradients


def convolve(convolution: Convolution, x: Tensor, *params: Tensor) -> Tensor:
    """B x n x H x W -> B x m x H x W, differentiable in x and the parameters."""
    return _Convolve.apply(convolution, x.contiguous(), *(p.contiguous() for p in params))


class _Convolve(Function):
    @staticmethod
    def forward(ctx: Any, convolution: Convolution, x: Tensor, *params: Tensor) -> Tensor:
        y, *kept = convolution.forward(x, params)
        ctx.save_for_backward(x, *params, *kept)
        ctx.convolution, ctx.params = convolution, len(params)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        x, *others = ctx.saved_tensors
        params, kept = tuple(others[: ctx.params]), tuple(others[ctx.params :])
        return None, *ctx.convolution.backward(x, params, kept, grad.contiguous(), None)


class Layer(Function):
    """relu(batch_norm(convolution(x)) + x) with the batch's own statistics; also returns them, mean and biased variance.

    Arguments: the convolution, eps, whether x is added, x, gamma and beta of batch norm, the convolution's parameters; the
    tensors contiguous.
    """

    @staticmethod
    def forward(
        ctx: Any, convolution: Convolution, eps: float, add_x: bool, x: Tensor, gamma: Tensor, beta: Tensor, *params: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        out, mean, var, *kept = convolution.forward_layer(x, params, BatchNorm(gamma, beta, eps), add_x)
        ctx.save_for_backward(x, gamma, beta, *params, out, mean, var, *kept)
        ctx.convolution, ctx.eps, ctx.add_x, ctx.params = convolution, eps, add_x, len(params)
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> Gradients:
        x, gamma, beta, *others = ctx.saved_tensors
        params, kept = tuple(others[: ctx.params]), tuple(others[ctx.params :])
        norm = BatchNorm(gamma, beta, ctx.eps)
        return None, None, None, *ctx.convolution.backward_layer(x, params, norm, ctx.add_x, kept, grad.contiguous())


class BatchNormReLU(Function):
    """Layer without its convolution, relu(batch_norm(y) + residual), on maps of one order: contiguous, or channels-last of
    whole vectors of channels."""

    @staticmethod
    def forward(
        ctx: Any, eps: float, y: Tensor, residual: Tensor | None, gamma: Tensor, beta: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        out, mean, var = torch.ops.efficientconv.batch_norm(y, residual, gamma, beta, eps)
        ctx.save_for_backward(y, out, mean, var, gamma)
        ctx.eps, ctx.has_residual = eps, residual is not None
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> Gradients:
        y, out, mean, var, gamma = ctx.saved_tensors
        grad = grad.contiguous(memory_format=map_order(y))
        grad_residual, grad_y, grad_gamma, grad_beta = torch.ops.efficientconv.batch_norm_backward(
            grad, out, y, mean, var, gamma, ctx.eps, ctx.has_residual
        )
        return None, grad_y, grad_residual if ctx.has_residual else None, grad_gamma, grad_beta


def map_order(y: Tensor) -> torch.memory_format:
    """Of maps that are contiguous or channels-last; some are both."""
    return torch.contiguous_format if y.is_contiguous() else torch.channels_last
