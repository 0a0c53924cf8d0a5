"""Unravelled convolution: b intra-channel bases in parallel, then a projection (paper, algorithm 2 [A])."""

from __future__ import annotations

from torch import Tensor, nn

from efficientconv.complexity import Cost, conv_cost
from efficientconv.errors import UserError
from efficientconv.layers.backend import WithKernels, runs_native
from efficientconv.layers.base import LAYERS, same_padding
from efficientconv.native.convolutions import DepthwiseConnected
from efficientconv.native.layer import run_conv
from efficientconv.native.plan import dense_plans


@LAYERS.register("unravelled")
class UnravelledConv2d(WithKernels, nn.Module):
    """Each channel is convolved with b filters of k x k, then b n channels are projected to m: n x h x w -> m x h x w.

    MACs: b (n k^2 + n m) h w (paper, section 2 [S]). b = k^2 spans every standard convolution.

    Args:
        in_channels, out_channels: n, m.
        kernel_size: k, odd.
        bases: b, filters a channel.
    Raises:
        UserError: bases < 1; a kernel size that cannot keep h x w.
    """

    float32_under_autocast = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bases: int):
        super().__init__()
        if bases < 1:
            raise UserError(f"unravelled: bases={bases} leaves no filter a channel; choose 1 or more (model B has 4)")
        self.in_channels, self.out_channels, self.kernel_size, self.bases = in_channels, out_channels, kernel_size, bases
        self.depthwise = nn.Conv2d(
            in_channels, bases * in_channels, kernel_size,
            padding=same_padding(kernel_size), groups=in_channels, bias=False,
        )  # fmt: skip
        self.projection = nn.Conv2d(bases * in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if runs_native(self, x):
            return run_conv(self, x)
        return self.projection(self.depthwise(x))

    def native(self) -> DepthwiseConnected:
        return DepthwiseConnected(self.kernel_size, dense_plans(self.bases * self.in_channels, self.out_channels))

    def native_params(self) -> tuple[Tensor, ...]:
        return self.depthwise.weight, self.projection.weight

    def weights_fit(self) -> bool:
        rows, k = self.bases * self.in_channels, self.kernel_size
        filters, weight = self.native_params()
        return filters.shape == (rows, 1, k, k) and weight.shape == (self.out_channels, rows, 1, 1)

    def cost(self, h: int, w: int) -> Cost:
        n, m, b = self.in_channels, self.out_channels, self.bases
        return conv_cost(n, b * n, self.kernel_size**2, n, h * w) + conv_cost(b * n, m, 1, 1, h * w)
