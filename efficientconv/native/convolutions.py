"""The native kernels as convolutions and as layers around them, each with its gradients, on contiguous float32 tensors.

Little is kept for backward: the result of a depthwise convolution is computed again, tile by tile, what ReLU let through is
read off the output, and the map that a bottleneck's batch norm stands on is never made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from efficientconv.native.plan import Plans

Gradients = tuple[Tensor | None, ...]


class Epilogue(NamedTuple):
    """What a convolution does to its outputs before it stores them: batch norm, + residual, ReLU.

    norm: mean, variance, gamma and beta, the last two also None; empty: no batch norm.
    """

    norm: tuple[Tensor | None, ...] = ()
    eps: float = 0.0
    residual: Tensor | None = None
    relu: bool = False


class Convolution(Protocol):
    """A convolution without its parameters, which every method takes as a tuple of contiguous tensors."""

    def infer(self, x: Tensor, params: tuple[Tensor, ...], epilogue: Epilogue) -> Tensor:
        """B x n x H x W -> B x m x H x W with the epilogue; nothing is kept."""

    def forward(self, x: Tensor, params: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The result, and what else `backward` wants."""

    def backward(
        self, x: Tensor, params: tuple[Tensor, ...], kept: tuple[Tensor, ...], grad: Tensor, add: Tensor | None
    ) -> Gradients:
        """The gradients of x, with `add` added, and of the parameters."""

    def forward_layer(self, x: Tensor, params: tuple[Tensor, ...], norm: BatchNorm, add_x: bool) -> tuple[Tensor, ...]:
        """relu(batch norm of the result + x), or without the + x; mean and biased variance; what `backward_layer` wants."""

    def backward_layer(
        self, x: Tensor, params: tuple[Tensor, ...], norm: BatchNorm, add_x: bool, kept: tuple[Tensor, ...], grad: Tensor
    ) -> Gradients:
        """The gradients of x, gamma, beta and the parameters. `kept`: all that `forward_layer` has returned."""


@dataclass(frozen=True)
class BatchNorm:
    """Batch norm with the batch's own statistics; gamma and beta of m channels."""

    gamma: Tensor
    beta: Tensor
    eps: float


class NormedAfterwards:
    """A convolution whose result is kept for batch norm, a kernel of its own."""

    def forward_layer(self, x: Tensor, params: tuple[Tensor, ...], norm: BatchNorm, add_x: bool) -> tuple[Tensor, ...]:
        y, *kept = self.forward(x, params)
        out, mean, var = torch.ops.efficientconv.batch_norm(y, x if add_x else None, norm.gamma, norm.beta, norm.eps)
        return out, mean, var, y, *kept

    def backward_layer(
        self, x: Tensor, params: tuple[Tensor, ...], norm: BatchNorm, add_x: bool, kept: tuple[Tensor, ...], grad: Tensor
    ) -> Gradients:
        out, mean, var, y, *rest = kept
        grad_residual, grad_y, grad_gamma, grad_beta = torch.ops.efficientconv.batch_norm_backward(
            grad, out, y, mean, var, norm.gamma, norm.eps, add_x
        )
        grad_x, *grads = self.backward(x, params, tuple(rest), grad_y, grad_residual if add_x else None)
        return grad_x, grad_gamma, grad_beta, *grads


@dataclass(frozen=True)
class Connected(NormedAfterwards):
    """A k x k convolution over planned connections. Parameters: (weight,), in the order that the plans know."""

    kernel_size: int
    plans: Plans

    def infer(self, x: Tensor, params: tuple[Tensor, ...], epilogue: Epilogue) -> Tensor:
        return self._run(x, None, *params, self.kernel_size, self.plans.forward, self.plans.outputs, epilogue)

    def forward(self, x: Tensor, params: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.infer(x, params, Epilogue()),)

    def backward(
        self, x: Tensor, params: tuple[Tensor, ...], kept: tuple[Tensor, ...], grad: Tensor, add: Tensor | None
    ) -> Gradients:
        return self.grad_x(grad, params[-1], self.kernel_size, add), self.grad_weight(x, None, params[-1], grad)

    def grad_x(self, grad: Tensor, weight: Tensor, kernel_size: int, add: Tensor | None) -> Tensor:
        epilogue = Epilogue(residual=add)
        return self._run(grad, None, weight, kernel_size, self.plans.backward, self.plans.inputs, epilogue)

    def grad_weight(self, x: Tensor, filters: Tensor | None, weight: Tensor, grad: Tensor) -> Tensor:
        if self.plans.dense:
            return torch.ops.efficientconv.dense_weight_gradient(x, filters, weight, grad)
        return torch.ops.efficientconv.weight_gradient(
            x, filters, weight, self.kernel_size, self.plans.forward, self.plans.outputs, grad
        )

    @staticmethod
    def _run(
        x: Tensor, filters: Tensor | None, weight: Tensor, kernel_size: int, plan: list[Tensor], outputs: int, end: Epilogue
    ) -> Tensor:
        return torch.ops.efficientconv.convolve(x, filters, weight, kernel_size, plan, outputs, *end)


@dataclass(frozen=True)
class DepthwiseConnected(Connected):
    """A depthwise k x k convolution, then a planned 1 x 1. Parameters: (filters, weight), filters n b x 1 x k x k."""

    def infer(self, x: Tensor, params: tuple[Tensor, ...], epilogue: Epilogue) -> Tensor:
        return self._run(x, *params, self.kernel_size, self.plans.forward, self.plans.outputs, epilogue)

    def backward(
        self, x: Tensor, params: tuple[Tensor, ...], kept: tuple[Tensor, ...], grad: Tensor, add: Tensor | None
    ) -> Gradients:
        filters, weight = params
        between = self.grad_x(grad, weight, 1, None)
        grad_x, grad_filters = torch.ops.efficientconv.depthwise_backward(x, filters, between, add)
        return grad_x, grad_filters, self.grad_weight(x, filters, weight, grad)

    def backward_layer(
        self, x: Tensor, params: tuple[Tensor, ...], norm: BatchNorm, add_x: bool, kept: tuple[Tensor, ...], grad: Tensor
    ) -> Gradients:
        if not self._image_by_image(x):
            return super().backward_layer(x, params, norm, add_x, kept, grad)
        (filters, weight), (_, mean, var, y) = params, kept
        grad_x, grad_filters, grad_weight, grad_gamma, grad_beta = torch.ops.efficientconv.sic_backward(
            grad, y, x, filters, weight, self.plans.backward, mean, var, norm.gamma, norm.beta, norm.eps, add_x
        )
        return grad_x, grad_gamma, grad_beta, grad_filters, grad_weight

    def _image_by_image(self, x: Tensor) -> bool:
        """Whether the whole backward pass may share images out between threads: as many for each, of enough pixels."""
        threads, pixels = torch.get_num_threads(), x.shape[-2] * x.shape[-1]
        return self.plans.dense and len(x) % threads == 0 and len(x) * pixels > self.plans.outputs


@dataclass(frozen=True)
class Bottleneck:
    """Reduction onto cells, projection, expansion. Parameters: (reduction, projection, expansion), as the layer's."""

    padding: int
    plans: Plans

    def infer(self, x: Tensor, params: tuple[Tensor, ...], epilogue: Epilogue) -> Tensor:
        reduce, project, expand = params
        plans = self.plans
        if len(x) < torch.get_num_threads():  # the fused kernel gives whole images to the threads
            return self._expand(self._cells(x, params)[1], expand, x, epilogue)
        return torch.ops.efficientconv.bottleneck(
            x, reduce, project, expand, self.padding, plans.forward, plans.outputs, *epilogue
        )

    def forward(self, x: Tensor, params: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        reduced, projected = self._cells(x, params)
        return self._expand(projected, params[-1], x, Epilogue()), reduced, projected

    def backward(
        self, x: Tensor, params: tuple[Tensor, ...], kept: tuple[Tensor, ...], grad: Tensor, add: Tensor | None
    ) -> Gradients:
        (reduce, project, expand), (reduced, projected) = params, kept
        filter_gradient = torch.ops.efficientconv.cell_filter_gradient
        grad_expand = filter_gradient(projected, grad, expand, self.padding)
        cells = self._reduce(grad, expand)
        grad_project = self._projection().grad_weight(reduced, None, project, cells)
        cells = self._projection().grad_x(cells, project, 1, None)
        grad_reduce = filter_gradient(cells, x, reduce, self.padding)
        return self._expand(cells, reduce, x, Epilogue(residual=add)), grad_reduce, grad_project, grad_expand

    def forward_layer(self, x: Tensor, params: tuple[Tensor, ...], norm: BatchNorm, add_x: bool) -> tuple[Tensor, ...]:
        reduced, projected = self._cells(x, params)
        expand = params[-1]
        mean, var = torch.ops.efficientconv.cell_statistics(projected, expand, self.padding, *x.shape[-2:])
        end = Epilogue((mean, var, norm.gamma, norm.beta), norm.eps, x if add_x else None, relu=True)
        out = self._expand(projected, expand, x, end)
        return out, mean, var, reduced, projected

    def backward_layer(
        self, x: Tensor, params: tuple[Tensor, ...], norm: BatchNorm, add_x: bool, kept: tuple[Tensor, ...], grad: Tensor
    ) -> Gradients:
        (reduce, project, expand), (out, mean, var, reduced, projected) = params, kept
        cells, grad_expand, grad_gamma, grad_beta = torch.ops.efficientconv.expand_backward(
            grad, out, projected, expand, self.padding, mean, var, norm.gamma, norm.eps
        )
        grad_project = self._projection().grad_weight(reduced, None, project, cells)
        cells = self._projection().grad_x(cells, project, 1, None)
        residual = (grad, out) if add_x else (None, None)
        grad_x, grad_reduce = torch.ops.efficientconv.reduce_backward(x, reduce, self.padding, cells, *residual)
        return grad_x, grad_gamma, grad_beta, grad_reduce, grad_project, grad_expand

    def _projection(self) -> Connected:
        return Connected(1, self.plans)

    def _cells(self, x: Tensor, params: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Before and after the projection."""
        reduce, project, _ = params
        reduced = self._reduce(x, reduce)
        return reduced, self._project(reduced, project)

    def _reduce(self, x: Tensor, filters: Tensor) -> Tensor:
        return torch.ops.efficientconv.reduce(x, filters, self.padding)

    def _project(self, cells: Tensor, weight: Tensor) -> Tensor:
        return self._projection().infer(cells, (weight,), Epilogue())

    def _expand(self, cells: Tensor, filters: Tensor, like: Tensor, epilogue: Epilogue) -> Tensor:
        return torch.ops.efficientconv.expand(cells, filters, self.padding, *like.shape[-2:], *epilogue)
