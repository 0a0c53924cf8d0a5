"""Grouped convolution: what topological subdivisioning is compared with (model H)."""

from __future__ import annotations

from torch import nn

from efficientconv.complexity import Cost, conv_cost
from efficientconv.errors import UserError
from efficientconv.layers.base import LAYERS, same_padding


@LAYERS.register("grouped")
class GroupedConv2d(nn.Conv2d):
    """k x k convolution in `groups` blocks of channels that do not see each other, n x h x w -> m x h x w, without bias.

    MACs: n m k^2 h w / groups (model H: 4 groups [M]).

    Args:
        in_channels, out_channels: n, m, both divisible by groups.
        kernel_size: k, odd.
        groups: number of blocks.
    Raises:
        UserError: channels that `groups` does not divide; a kernel size that cannot keep h x w.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, groups: int):
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise UserError(
                f"grouped: groups={groups} does not divide {in_channels} input and {out_channels} output channels; "
                "choose a divisor of both, or a width that makes it one"
            )
        super().__init__(
            in_channels, out_channels, kernel_size, padding=same_padding(kernel_size), groups=groups, bias=False
        )

    def cost(self, h: int, w: int) -> Cost:
        return conv_cost(self.in_channels, self.out_channels, self.kernel_size[0] ** 2, self.groups, h * w)
