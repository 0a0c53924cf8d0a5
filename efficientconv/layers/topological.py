"""Topological subdivisioning of a convolution's channels (paper, algorithm 4 [A])."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.complexity import Cost, conv_cost
from efficientconv.errors import UserError
from efficientconv.layers.backend import runs_operator, stands_for
from efficientconv.layers.base import LAYERS
from efficientconv.layers.geometry import Conv2dAttributes, Device, Padding, Size, fits_operator, geometry, out_size
from efficientconv.layers.operators import Sizes, conv_backward, convolution, ops
from efficientconv.layers.topology import Topology, as_arguments


def dense_weight(weight: Tensor, neighbours: Tensor, inputs: int, outputs: int) -> Tensor:
    """The kernel of the standard layer that a topological layer equals: zero for channels that are not connected."""
    index = neighbours[:, :, None, None].expand_as(weight)
    dense = weight.new_zeros(outputs, inputs, weight.shape[2], weight.shape[3])
    return dense.scatter_(1, index, weight)  # in place: scatter would copy the zeros first


def as_standard(weight: Tensor, dims: Sizes, connections: Sizes, anchor: str) -> Tensor:
    """`dense_weight` from an operator's arguments. Without dims the weight is the standard layer's already."""
    if not dims:
        return weight
    topology = Topology(tuple(dims), tuple(connections), anchor)
    return dense_weight(weight, topology.neighbours().to(weight.device), topology.channels, topology.channels)


def topological(x: Tensor, weight: Tensor, padding: int, dims: Sizes, connections: Sizes, anchor: str) -> Tensor:
    return F.conv2d(x, as_standard(weight, dims, connections, anchor), padding=padding)


def topological_backward(
    grad: Tensor, x: Tensor, weight: Tensor, padding: int, dims: Sizes, connections: Sizes, anchor: str,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    if not dims:
        return conv_backward(grad, x, weight, wanted, padding=padding)
    neighbours = Topology(tuple(dims), tuple(connections), anchor).neighbours().to(weight.device)
    dense = dense_weight(weight, neighbours, x.shape[1], len(weight))
    grad_x, grad_dense = conv_backward(grad, x, dense, wanted, padding=padding)
    return grad_x, grad_dense.gather(1, neighbours[:, :, None, None].expand_as(weight)) if wanted[1] else grad_dense


TOPOLOGY = "int[] dims, int[] connections, str anchor"
convolution("topological", topological, topological_backward, "Tensor weight", f"int padding, {TOPOLOGY}")


@LAYERS.register("topological")
class TopologicalConv2d(Conv2dAttributes):
    """k x k convolution in which each output channel sees its c topological neighbours: n x h x w -> n x h' x w'.

    MACs: n c k^2 h' w', c / n of the standard layer (paper, section 2 [S]). Only the connections are parameters:
    `weight` is n x c x k x k, with its second axis in the order of `topology.neighbours()`. The native kernels compute only
    the connections. The reference spreads them into a dense kernel with zeros elsewhere, at the standard layer's time.

    Args:
        in_channels, out_channels: n, both the same and equal to prod d_i.
        kernel_size, stride, padding, dilation, bias, padding_mode: as for nn.Conv2d; by default padding is "same", which
            goes with a stride, too (ceil(h / stride) rows), and there is no bias.
        topology: the dimensions, the neighbourhood and its anchor.
    Raises:
        UserError: channels that do not fill the topology; no Topology; an invalid geometry.
    """

    operators = ops.topological.default, ops.topological_layer.default
    bias: nn.Parameter | None
    neighbours: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Padding = "same",
        dilation: Size = 1, bias: bool = False, padding_mode: str = "zeros", *, topology: Topology,
        device: Device = None, dtype: torch.dtype | None = None,
    ):  # fmt: skip
        if not isinstance(topology, Topology):
            raise UserError(f"topological: topology={topology!r} is no Topology, such as Topology((8, 16), (4, 8))")
        if not in_channels == out_channels == topology.channels:
            raise UserError(
                f"topological: {topology} arranges {topology.channels} channels, but the layer has {in_channels} -> "
                f"{out_channels}; choose dims whose product is the number of input and of output channels"
            )
        super().__init__(in_channels, out_channels, geometry(kernel_size, stride, padding, dilation, padding_mode))
        self.topology = topology
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(out_channels, topology.fan, *self.kernel_size, **made))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_channels, **made)) if bias else None)
        self.register_buffer("neighbours", None, persistent=False)
        self._place_neighbours()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight)  # every channel has c inputs and c outputs: fan in = fan out
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)  # as nn.Conv2d does

    def dense_weight(self) -> Tensor:
        """The kernel of the standard layer that this layer equals: n x n x k x k, zero for unconnected channels."""
        return dense_weight(self.weight, self.neighbours, self.in_channels, self.out_channels)

    @stands_for
    def forward(self, x: Tensor) -> Tensor:
        if runs_operator(self, x):
            return self.operator(x)
        rows, columns = self.padding
        if self.padding_mode != "zeros":
            x, rows, columns = F.pad(x, (columns, columns, rows, rows), self.padding_mode), 0, 0
        return F.conv2d(x, self.dense_weight(), self.bias, self.stride, (rows, columns), self.dilation)

    def takes_operator(self, x: Tensor) -> bool:
        return fits_operator(self)

    def operator_arguments(self) -> tuple[Any, ...]:
        return self._parameters["weight"], self.padding[0], *as_arguments(self.topology)

    def cost(self, h: int, w: int) -> Cost:
        area, positions = math.prod(self.kernel_size), math.prod(out_size(self, h, w))
        return conv_cost(self.topology.fan, self.out_channels, area, 1, positions, bias=self.bias is not None)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, topology={self.topology!r}"

    def _place_neighbours(self) -> None:
        self.neighbours = self.topology.neighbours().to(self.weight.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TopologicalConv2d:
        """Places `neighbours` again, because to_empty leaves buffers without values."""
        super()._apply(fn, recurse)
        self._place_neighbours()
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        """Places `neighbours` again, because load_state_dict(assign=True) leaves buffers on meta."""
        super()._load_from_state_dict(*args)
        self._place_neighbours()
