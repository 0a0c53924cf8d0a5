"""The standard convolution: the layer that the others are measured against."""

from __future__ import annotations

from torch import nn

from efficientconv.complexity import Cost, conv_cost
from efficientconv.layers.base import LAYERS, same_padding


@LAYERS.register("standard")
class StandardConv2d(nn.Conv2d):
    """k x k convolution over all channels, n x h x w -> m x h x w, without bias.

    MACs: n m k^2 h w (paper, section 2 [S]).

    Args:
        in_channels, out_channels: n, m.
        kernel_size: k, odd.
    Raises:
        UserError: a kernel size that cannot keep h x w.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__(in_channels, out_channels, kernel_size, padding=same_padding(kernel_size), bias=False)

    def cost(self, h: int, w: int) -> Cost:
        return conv_cost(self.in_channels, self.out_channels, self.kernel_size[0] ** 2, 1, h * w)
