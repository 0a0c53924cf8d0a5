"""Unravelled convolution: b intra-channel bases in parallel, then a projection (paper, algorithm 2 [A])."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.complexity import Cost, conv_cost
from efficientconv.errors import UserError
from efficientconv.layers.backend import runs_operator, stands_for
from efficientconv.layers.base import LAYERS
from efficientconv.layers.geometry import (
    Conv2dAttributes,
    Device,
    Padding,
    Size,
    check_groups,
    fits_operator,
    geometry,
    is_projection,
    is_whole,
    out_size,
)
from efficientconv.layers.operators import Sizes, conv_backward, convolution, ops
from efficientconv.layers.topological import TOPOLOGY, TopologicalConv2d, topological, topological_backward
from efficientconv.layers.topology import Topology, as_arguments


def _sic(
    x: Tensor, filters: Tensor, weight: Tensor, channels: int, padding: int, dims: Sizes, connections: Sizes, anchor: str
) -> Tensor:
    return topological(F.conv2d(x, filters, padding=padding, groups=channels), weight, 0, dims, connections, anchor)


def _sic_backward(
    grad: Tensor, x: Tensor, filters: Tensor, weight: Tensor, channels: int, padding: int, dims: Sizes, connections: Sizes,
    anchor: str, wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    y, *inner = F.conv2d(x, filters, padding=padding, groups=channels), *wanted[:2]
    grad_y, grad_weight = topological_backward(grad, y, weight, 0, dims, connections, anchor, [any(inner), wanted[2]])
    if not any(inner):
        return None, None, grad_weight
    return *conv_backward(grad_y, x, filters, inner, padding=padding, groups=channels), grad_weight


convolution("sic", _sic, _sic_backward, "Tensor filters, Tensor weight", f"int channels, int padding, {TOPOLOGY}")


@LAYERS.register("unravelled")
class UnravelledConv2d(Conv2dAttributes):
    """Each channel is convolved with b filters of k x k, then b n channels are projected to m: n x h x w -> m x h' x w'.

    MACs: b (n k^2 + n m / groups) h' w' (paper, section 2 [S]); with a topology on the projection, (b n k^2 + m c) h' w'.
    b = k^2 spans every standard convolution.

    Args:
        in_channels, out_channels: n, m.
        kernel_size, stride, padding, dilation, padding_mode: of the filters, as for nn.Conv2d; by default padding is "same",
            which goes with a stride, too (ceil(h / stride) rows).
        bias: of the projection; by default there is none.
        bases: b, filters a channel.
        groups: of the projection: separate blocks of channels, as for nn.Conv2d.
        topology: the projection's connections, of b n = m channels; None: all.
    Raises:
        UserError: bases < 1 or not whole; an invalid geometry; channels that do not fill the topology.
    """

    operators = ops.sic.default, ops.sic_layer.default
    projection: nn.Conv2d | TopologicalConv2d

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Padding = "same",
        dilation: Size = 1, bias: bool = False, padding_mode: str = "zeros", *, bases: int, groups: int = 1,
        topology: Topology | None = None, device: Device = None, dtype: torch.dtype | None = None,
    ):  # fmt: skip
        if not is_whole(bases) or bases < 1:
            raise UserError(f"unravelled: bases={bases!r} is out of range; choose a whole number, 1 or more (B has 4)")
        sizes = geometry(kernel_size, stride, padding, dilation, padding_mode)
        super().__init__(in_channels, out_channels, sizes)
        check_groups(groups, in_channels, out_channels)
        if topology is not None and groups != 1:
            raise UserError(f"unravelled: groups={groups} beside a topology; leave one of them out")
        self.bases, self.groups, self.topology, inner = bases, groups, topology, bases * in_channels
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.depthwise = nn.Conv2d(in_channels, inner, groups=in_channels, bias=False, **sizes._asdict(), **made)
        if topology is None:
            self.projection = nn.Conv2d(inner, out_channels, 1, groups=groups, bias=bias, **made)
        else:
            self.projection = TopologicalConv2d(inner, out_channels, 1, bias=bias, topology=topology, **made)

    @property
    def bias(self) -> Tensor | None:
        return self.projection.bias

    def dense_weight(self) -> Tensor:
        """The kernel of the standard layer that this layer equals: m x n / groups x k x k."""
        shares = self.projection.weight if self.topology is None else self.projection.dense_weight()
        blocks, inputs = self.groups, self.in_channels // self.groups
        shares = shares.reshape(blocks, self.out_channels // blocks, inputs, self.bases)
        filters = self.depthwise.weight.reshape(blocks, inputs, self.bases, *self.kernel_size)
        return torch.einsum("gmnb,gnbhw->gmnhw", shares, filters).flatten(0, 1)

    @stands_for
    def forward(self, x: Tensor) -> Tensor:
        if runs_operator(self, x):
            return self.operator(x)
        return self.projection(self.depthwise(x))

    def takes_operator(self, x: Tensor) -> bool:
        modules: dict[str, Any] = self._modules
        filters, projection = modules["depthwise"], modules["projection"]
        return fits_operator(filters) and filters.groups == filters.in_channels and is_projection(projection)

    def operator_arguments(self) -> tuple[Any, ...]:
        modules: dict[str, Any] = self._modules
        depthwise, projection = modules["depthwise"], modules["projection"]
        filters, weight = depthwise._parameters["weight"], projection._parameters["weight"]
        topology = as_arguments(projection.__dict__.get("topology"))
        return filters, weight, depthwise.groups, depthwise.padding[0], *topology

    def cost(self, h: int, w: int) -> Cost:
        positions, inner = math.prod(out_size(self, h, w)), self.bases * self.in_channels
        seen = inner if self.topology is None else self.topology.fan
        filters = conv_cost(self.in_channels, inner, math.prod(self.kernel_size), self.in_channels, positions)
        return filters + conv_cost(seen, self.out_channels, 1, self.groups, positions, bias=self.bias is not None)

    def extra_repr(self) -> str:
        topology = "" if self.topology is None else f", topology={self.topology!r}"
        return f"{super().extra_repr()}, bases={self.bases}{topology}"
