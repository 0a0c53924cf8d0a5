"""SIC, single intra-channel convolution (paper, algorithm 3 [A])."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from efficientconv.complexity import Cost, conv_cost
from efficientconv.layers.backend import WithKernels, runs_native
from efficientconv.layers.base import LAYERS, same_padding
from efficientconv.layers.topological import TopologicalConv2d
from efficientconv.layers.topology import Topology
from efficientconv.native.convolutions import DepthwiseConnected
from efficientconv.native.layer import is_inference, run_conv
from efficientconv.native.plan import dense_plans, topological_plans


@LAYERS.register("sic")
class SICConv2d(WithKernels, nn.Module):
    """One k x k filter a channel, then a linear projection, nothing between: n x h x w -> m x h x w, without bias.

    MACs: (n k^2 + n m) h w, about 1 / k^2 of the standard layer where k^2 << n (paper, section 2 [S][A]); with a topology
    on the projection, (n k^2 + n c) h w (model I [S]). The paper's SIC layer is this in a `ConvLayer`, with its residual
    connection and ReLU; `residual=False` there is the ablation.

    Args:
        in_channels, out_channels: n, m.
        kernel_size: k, odd.
        topology: the projection's connections; None: all.
    Raises:
        UserError: a kernel size that cannot keep h x w; a topology that the channels do not fill.
    """

    float32_under_autocast = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, topology: Topology | None = None):
        super().__init__()
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, kernel_size, padding=same_padding(kernel_size), groups=in_channels, bias=False
        )
        if topology is None:
            self.projection = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        else:
            self.projection = TopologicalConv2d(in_channels, out_channels, 1, topology)
        self.topology = topology

    def forward(self, x: Tensor) -> Tensor:
        if runs_native(self, x):
            return run_conv(self, x)
        return self.projection(self.depthwise(x))

    def kernels_pay(self, x: Tensor) -> bool:
        """On small maps PyTorch's depthwise layer and matrix product are faster in training, and in bfloat16 under autocast.

        The bounds were measured on models whose maps are channels-last at first, which they stay where PyTorch runs.
        """
        positions = x.shape[-2] * x.shape[-1]
        if torch.is_autocast_enabled("cpu"):
            return positions >= 1024 or self.topology is not None
        if is_inference(x, self):
            return True
        if self.topology is not None:
            return positions * self.in_channels >= 2048
        return positions >= (36 if self.kernel_size <= 3 else 256)

    def native(self) -> DepthwiseConnected:
        if self.topology is None:
            plans = dense_plans(self.in_channels, self.out_channels)
        else:
            plans = topological_plans(self.topology, kernel_size=1)
        return DepthwiseConnected(self.kernel_size, plans)

    def native_params(self) -> tuple[Tensor, ...]:
        return self.depthwise.weight, self.projection.weight

    def weights_fit(self) -> bool:
        n, m, k = self.in_channels, self.out_channels, self.kernel_size
        seen = n if self.topology is None else self.topology.fan
        filters, weight = self.native_params()
        return filters.shape == (n, 1, k, k) and weight.shape == (m, seen, 1, 1)

    def cost(self, h: int, w: int) -> Cost:
        n, m = self.in_channels, self.out_channels
        seen = n if self.topology is None else self.topology.fan
        return conv_cost(n, n, self.kernel_size**2, n, h * w) + conv_cost(seen, m, 1, 1, h * w)
