"""The native kernels as convolutions and as layers around them, on float32 tensors; csrc/ has their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from efficientconv.native.plan import Plans

Params = tuple[Tensor, ...]


class Epilogue(NamedTuple):
    """What a convolution does to its outputs before it stores them: batch norm, + residual, ReLU.

    norm: mean, variance, gamma and beta, the last two also None; empty: no batch norm.
    """

    norm: tuple[Tensor | None, ...] = ()
    eps: float = 0.0
    residual: Tensor | None = None
    relu: bool = False


class BatchNorm(NamedTuple):
    """Batch norm with the batch's own statistics; gamma and beta of m channels."""

    gamma: Tensor
    beta: Tensor
    eps: float


class Convolution(Protocol):
    """A convolution without its parameters, which methods take as a tuple. x is contiguous, for `train` in any order."""

    def infer(self, x: Tensor, params: Params, epilogue: Epilogue) -> Tensor:
        """B x n x H x W -> B x m x H x W with the epilogue, without gradients; contiguous parameters."""

    def train(self, x: Tensor, params: Params) -> Tensor:
        """B x n x H x W -> B x m x H x W, differentiable in x and the parameters."""

    def train_layer(self, x: Tensor, params: Params, norm: BatchNorm, add_x: bool) -> tuple[Tensor, Tensor, Tensor]:
        """relu(batch norm of the result + x), or without the + x, differentiable; mean and biased variance of the batch."""


@dataclass(frozen=True)
class Connected:
    """A k x k convolution over planned connections. Parameters: (weight,), in the order that the plans know."""

    kernel_size: int
    plans: Plans

    def infer(self, x: Tensor, params: Params, epilogue: Epilogue) -> Tensor:
        filters, weight = self._both(params)
        return torch.ops.efficientconv.convolve(
            x, filters, weight, self.kernel_size, self.plans.forward, self.plans.outputs, *epilogue
        )

    def train(self, x: Tensor, params: Params) -> Tensor:
        return torch.ops.efficientconv.connected(x, *self._both(params), self.plans.forward, self.plans.backward)

    def train_layer(self, x: Tensor, params: Params, norm: BatchNorm, add_x: bool) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ops.efficientconv.connected_layer(
            x, *self._both(params), *norm, add_x, self.plans.forward, self.plans.backward
        )

    def _both(self, params: Params) -> tuple[Tensor | None, Tensor]:
        """The depthwise filters, if any, and the weight."""
        return None, params[0]


@dataclass(frozen=True)
class DepthwiseConnected(Connected):
    """A depthwise k x k convolution, then a planned 1 x 1. Parameters: (filters, weight), filters n b x 1 x k x k."""

    def _both(self, params: Params) -> tuple[Tensor | None, Tensor]:
        return params


@dataclass(frozen=True)
class Bottleneck:
    """Reduction onto cells, projection, expansion. Parameters: (reduction, projection, expansion), as the layer's."""

    padding: int
    plans: Plans

    def infer(self, x: Tensor, params: Params, epilogue: Epilogue) -> Tensor:
        ops, plans = torch.ops.efficientconv, self.plans
        reduce, project, expand = params
        if len(x) >= torch.get_num_threads():
            return ops.bottleneck(x, reduce, project, expand, self.padding, plans.forward, plans.outputs, *epilogue)
        # the fused kernel gives whole images to the threads, which are more
        reduced = ops.reduce(x, reduce, self.padding)
        projected = ops.convolve(reduced, None, project, 1, plans.forward, plans.outputs, *Epilogue())
        return ops.expand(projected, expand, self.padding, *x.shape[-2:], *epilogue)

    def train(self, x: Tensor, params: Params) -> Tensor:
        return torch.ops.efficientconv.bottleneck_train(x, *params, self.padding, self.plans.forward, self.plans.backward)

    def train_layer(self, x: Tensor, params: Params, norm: BatchNorm, add_x: bool) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ops.efficientconv.bottleneck_layer(
            x, *params, *norm, add_x, self.padding, self.plans.forward, self.plans.backward
        )
