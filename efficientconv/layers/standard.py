"""The standard convolution: the layer that the others are measured against."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from efficientconv.complexity import Cost, conv_cost
from efficientconv.layers.backend import HasOperator, is_inference
from efficientconv.layers.base import LAYERS
from efficientconv.layers.geometry import Device, Padding, Size, check_channels, geometry, is_plain, out_size
from efficientconv.layers.operators import Norm, ops
from efficientconv.layers.topology import as_arguments


@LAYERS.register("standard")
class StandardConv2d(HasOperator, nn.Conv2d):
    """k x k convolution over all channels, n x h x w -> m x h' x w'.

    MACs: n m k^2 h' w' (paper, section 2 [S]).

    Args:
        in_channels, out_channels: n, m.
        kernel_size, stride, padding, dilation, bias, padding_mode: as nn.Conv2d's; padding as `geometry` has it.
    Raises:
        UserError: no channels; a geometry without meaning.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Padding = "same",
        dilation: Size = 1, bias: bool = False, padding_mode: str = "zeros", *,
        device: Device = None, dtype: torch.dtype | None = None,
    ):  # fmt: skip
        check_channels(in_channels, out_channels)
        sizes = geometry(kernel_size, stride, padding, dilation, padding_mode)
        super().__init__(in_channels, out_channels, bias=bias, device=device, dtype=dtype, **sizes._asdict())
        self.keeps_size = sizes.keeps_size

    def takes_operator(self, x: Tensor) -> bool:
        """The library's own are as fast; but a 1 x 1 layer leaves contiguous maps to the layers around it that need them."""
        if self.kernel_size != (1, 1) or self.training or not x.is_contiguous() or not is_plain(self):
            return False
        return is_inference(x, self._parameters["weight"])

    def layer_operator(self, x: Tensor, residual: Tensor | None, norm: Norm) -> Tensor:
        return ops.topological_layer.default(x, self._parameters["weight"], 0, *as_arguments(None), residual, *norm)

    def cost(self, h: int, w: int) -> Cost:
        area, positions = math.prod(self.kernel_size), math.prod(out_size(self, h, w))
        return conv_cost(self.in_channels, self.out_channels, area, 1, positions, bias=self.bias is not None)
