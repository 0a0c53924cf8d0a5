"""Topological subdivisioning of a convolution's channels (paper, algorithm 4 [A])."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.complexity import Cost, conv_cost
from efficientconv.errors import UserError
from efficientconv.layers.backend import WithKernels, runs_native
from efficientconv.layers.base import LAYERS, same_padding
from efficientconv.layers.topology import Topology
from efficientconv.native.convolutions import Connected
from efficientconv.native.layer import run_conv
from efficientconv.native.plan import topological_plans


@LAYERS.register("topological")
class TopologicalConv2d(WithKernels, nn.Module):
    """k x k convolution in which each output channel sees its c topological neighbours: n x h x w -> n x h x w, no bias.

    MACs: n c k^2 h w, c / n of the standard layer (paper, section 2 [S]). Only the connections are parameters:
    `weight` is n x c x k x k, its second axis in the order of `topology.neighbours()`. The native kernels compute them
    alone. The reference spreads them into a dense kernel whose other entries are zero, and takes the standard layer's time.

    Args:
        in_channels, out_channels: n, both the same and equal to prod d_i.
        kernel_size: k, odd.
        topology: the dimensions, the neighbourhood and its anchor.
    Raises:
        UserError: channels that do not fill the topology; a kernel size that cannot keep h x w.
    """

    float32_under_autocast = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, topology: Topology):
        super().__init__()
        if not in_channels == out_channels == topology.channels:
            raise UserError(
                f"topological: {topology} arranges {topology.channels} channels, but the layer has {in_channels} -> "
                f"{out_channels}; choose dims whose product is the number of input and of output channels"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.padding, self.topology = kernel_size, same_padding(kernel_size), topology
        self.weight = nn.Parameter(torch.empty(out_channels, topology.fan, kernel_size, kernel_size))
        self.register_buffer("neighbours", topology.neighbours(), persistent=False)
        nn.init.kaiming_normal_(self.weight)  # every channel has c inputs and c outputs: fan in = fan out

    def dense_weight(self) -> Tensor:
        """The kernel of the standard layer that this one equals: n x n x k x k, zero where nothing is connected."""
        n, k = self.out_channels, self.kernel_size
        index = self.neighbours[:, :, None, None].expand_as(self.weight)
        return self.weight.new_zeros(n, n, k, k).scatter(1, index, self.weight)

    def forward(self, x: Tensor) -> Tensor:
        if runs_native(self, x):
            return run_conv(self, x)
        return F.conv2d(x, self.dense_weight(), padding=self.padding)

    def native(self) -> Connected:
        return Connected(self.kernel_size, topological_plans(self.topology, self.kernel_size))

    def native_params(self) -> tuple[Tensor, ...]:
        return (self.weight,)

    def weights_fit(self) -> bool:
        return self.weight.shape == (self.out_channels, self.topology.fan, self.kernel_size, self.kernel_size)

    def cost(self, h: int, w: int) -> Cost:
        return conv_cost(self.topology.fan, self.out_channels, self.kernel_size**2, 1, h * w)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, {self.topology}"
