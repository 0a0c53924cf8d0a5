"""Grouped convolution: the paper compares topological subdivisioning with it (model H)."""

from __future__ import annotations

import math

import torch
from torch import nn

from efficientconv.complexity import Cost, conv_cost
from efficientconv.layers.base import LAYERS
from efficientconv.layers.geometry import Device, Padding, Size, check_channels, check_groups, geometry, out_size


@LAYERS.register("grouped")
class GroupedConv2d(nn.Conv2d):
    """k x k convolution in `groups` separate blocks of channels: n x h x w -> m x h' x w'.

    MACs: n m k^2 h' w' / groups (model H: 4 groups [M]).

    Args:
        in_channels, out_channels: n, m, both divisible by groups.
        kernel_size, stride, padding, dilation, bias, padding_mode: as for nn.Conv2d; by default padding is "same", which
            goes with a stride, too (ceil(h / stride) rows), and there is no bias.
        groups: number of blocks.
    Raises:
        UserError: channels that `groups` does not divide; an invalid geometry.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Padding = "same",
        dilation: Size = 1, bias: bool = False, padding_mode: str = "zeros", *, groups: int,
        device: Device = None, dtype: torch.dtype | None = None,
    ):  # fmt: skip
        check_channels(in_channels, out_channels)
        check_groups(groups, in_channels, out_channels)
        sizes = geometry(kernel_size, stride, padding, dilation, padding_mode)._asdict()
        super().__init__(in_channels, out_channels, groups=groups, bias=bias, device=device, dtype=dtype, **sizes)

    def cost(self, h: int, w: int) -> Cost:
        area, positions = math.prod(self.kernel_size), math.prod(out_size(self, h, w))
        return conv_cost(self.in_channels, self.out_channels, area, self.groups, positions, bias=self.bias is not None)
