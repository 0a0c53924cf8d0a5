"""The native kernels as differentiable functions. Contiguous float32 tensors on the CPU; `backend.py` sees to that.

Little is saved for backward: the result of a depthwise convolution is computed again, tile by tile, and what ReLU let
through is read off the output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from efficientconv.native.plan import Plans


@dataclass(frozen=True)
class Epilogue:
    """What a convolution does to its outputs before it stores them: y * scale + bias + residual, then ReLU."""

    scale: Tensor | None = None
    bias: Tensor | None = None
    residual: Tensor | None = None
    relu: bool = False


@dataclass(frozen=True)
class Projection:
    """A convolution over planned connections, after a depthwise one where there are filters.

    filters: n b x 1 x k x k or None.
    weight: the connections' own, in the order that the plans know; m x c x k x k, or 1 x 1 after filters.
    kernel_size: k of whichever of the two has it.
    """

    filters: Tensor | None
    weight: Tensor
    kernel_size: int
    plans: Plans

    def __call__(self, x: Tensor) -> Tensor:
        """B x n x H x W -> B x m x H x W, differentiable in x, filters and weight."""
        filters = None if self.filters is None else self.filters.contiguous()
        return _Project.apply(x.contiguous(), filters, self.weight.contiguous(), self.kernel_size, self.plans)

    def infer(self, x: Tensor, epilogue: Epilogue) -> Tensor:
        """The same with an epilogue, in one pass; not differentiable."""
        filters = None if self.filters is None else self.filters.detach().contiguous()
        return torch.ops.efficientconv.convolve(
            x.contiguous(), filters, self.weight.detach().contiguous(), self.kernel_size, self.plans.forward,
            self.plans.outputs, epilogue.scale, epilogue.bias, epilogue.residual, epilogue.relu,
        )  # fmt: skip


class _Project(Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, filters: Tensor | None, weight: Tensor, kernel: int, plans: Plans) -> Tensor:
        ctx.save_for_backward(x, filters, weight)
        ctx.kernel, ctx.plans = kernel, plans
        return _convolve(x, filters, weight, kernel, plans.forward, plans.outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, filters, weight = ctx.saved_tensors
        grad, kernel, plans = grad.contiguous(), ctx.kernel, ctx.plans
        grad_x = grad_filters = grad_weight = None
        if ctx.needs_input_grad[2]:
            grad_weight = torch.ops.efficientconv.weight_gradient(
                x, filters, weight, kernel, plans.forward, plans.outputs, grad
            )
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            if filters is None:
                grad_x = _convolve(grad, None, weight, kernel, plans.backward, plans.inputs)
            else:
                between = _convolve(grad, None, weight, 1, plans.backward, plans.inputs)
                grad_x, grad_filters = torch.ops.efficientconv.depthwise_backward(x, filters, between)
        return grad_x, grad_filters, grad_weight, None, None


def _convolve(
    x: Tensor, filters: Tensor | None, weight: Tensor, kernel: int, plan: list[Tensor], outputs: int
) -> Tensor:
    return torch.ops.efficientconv.convolve(x, filters, weight, kernel, plan, outputs, None, None, None, False)


class BatchNormAddReLU(Function):
    """relu(batch_norm(y) + residual) with the batch's own statistics; also returns them, mean and biased variance."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, y: Tensor, residual: Tensor | None, gamma: Tensor | None, beta: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        out, mean, var = torch.ops.efficientconv.batch_norm(y, residual, gamma, beta, eps)
        ctx.save_for_backward(y, out, mean, var, gamma)
        ctx.eps, ctx.has_residual = eps, residual is not None
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        y, out, mean, var, gamma = ctx.saved_tensors
        grad_residual, grad_y, grad_gamma, grad_beta = torch.ops.efficientconv.batch_norm_backward(
            grad.contiguous(), out, y, mean, var, gamma, ctx.eps
        )
        affine = gamma is not None
        residual = grad_residual if ctx.has_residual else None
        return grad_y, residual, grad_gamma if affine else None, grad_beta if affine else None, None


class Reduce(Function):
    """Depthwise k x k with stride k onto cells, the first `padding` rows and columns shared with zeros."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, filters: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x, filters)
        ctx.padding = padding
        return torch.ops.efficientconv.reduce(x, filters, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x, filters), grad, padding = ctx.saved_tensors, grad.contiguous(), ctx.padding
        grad_x = expand(grad, filters, padding, x.shape, Epilogue()) if ctx.needs_input_grad[0] else None
        return grad_x, torch.ops.efficientconv.cell_filter_gradient(grad, x, filters, padding), None


class Expand(Function):
    """Depthwise transposed k x k with stride k from cells onto maps of `height` x `width`."""

    @staticmethod
    def forward(ctx: FunctionCtx, cells: Tensor, filters: Tensor, padding: int, height: int, width: int) -> Tensor:
        ctx.save_for_backward(cells, filters)
        ctx.padding = padding
        return expand(cells, filters, padding, (height, width), Epilogue())

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        (cells, filters), grad, padding = ctx.saved_tensors, grad.contiguous(), ctx.padding
        grad_cells = torch.ops.efficientconv.reduce(grad, filters, padding) if ctx.needs_input_grad[0] else None
        grad_filters = torch.ops.efficientconv.cell_filter_gradient(cells, grad, filters, padding)
        return grad_cells, grad_filters, None, None, None


def expand(cells: Tensor, filters: Tensor, padding: int, size: tuple[int, ...], epilogue: Epilogue) -> Tensor:
    """Cells onto maps of `size` (.., H, W), with an epilogue; not differentiable."""
    return torch.ops.efficientconv.expand(
        cells, filters, padding, *size[-2:], epilogue.scale, epilogue.bias, epilogue.residual, epilogue.relu
    )
