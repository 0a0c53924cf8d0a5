"""The standard convolution: the layer that the others are measured against."""

from __future__ import annotations

from torch import Tensor, nn

from efficientconv.complexity import Cost, conv_cost
from efficientconv.layers.backend import WithKernels
from efficientconv.layers.base import LAYERS, same_padding
from efficientconv.native.convolutions import Connected
from efficientconv.native.layer import is_inference
from efficientconv.native.plan import dense_plans


@LAYERS.register("standard")
class StandardConv2d(WithKernels, nn.Conv2d):
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

    def takes_kernels(self, x: Tensor) -> bool:
        """The library's own are as fast; but a 1 x 1 layer leaves contiguous maps to the layers around it that need them."""
        return self.kernel_size == (1, 1) and x.is_contiguous() and not self.training and is_inference(x, self)

    def native(self) -> Connected:
        return Connected(1, dense_plans(self.in_channels, self.out_channels))

    def native_params(self) -> tuple[Tensor, ...]:
        return (self.weight,)

    def weights_fit(self) -> bool:
        return self.weight.shape == (self.out_channels, self.in_channels, *self.kernel_size)

    def cost(self, h: int, w: int) -> Cost:
        return conv_cost(self.in_channels, self.out_channels, self.kernel_size[0] ** 2, 1, h * w)
