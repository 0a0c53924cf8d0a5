"""Channel-wise bottleneck: a pair of SIC layers through half the channels (paper, deep models [M][C])."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from efficientconv.complexity import Cost
from efficientconv.errors import UserError
from efficientconv.layers.backend import HasOperator, stands_for
from efficientconv.layers.base import LAYERS, ConvLayer
from efficientconv.layers.geometry import Conv2dAttributes, Device, Padding, Size, geometry, out_size
from efficientconv.layers.operators import Norm
from efficientconv.layers.sic import SICConv2d


@LAYERS.register("channel_bottleneck")
class ChannelBottleneckConv2d(Conv2dAttributes):
    """A SIC layer n -> n / 2 with its batch norm and ReLU, then SIC n / 2 -> m: n x h x w -> m x h' x w'.

    MACs: (n k^2 + n^2 / 2 + n k^2 / 2 + n m / 2) h' w': the pair costs about as much as one SIC layer [M][C]. In a
    `ConvLayer` the residual connection is around the pair [D].

    Args:
        in_channels, out_channels: n (even), m.
        kernel_size, dilation, padding_mode: of both layers, as for nn.Conv2d.
        stride, padding: of the first layer, as SICConv2d's; the second layer keeps h' x w'.
        bias: of the second layer, none by default; batch norm would cancel a bias of the first.
    Raises:
        UserError: an odd number of input channels; an invalid geometry; a kernel with an even side.
    """

    has_triton_layer = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Padding = "same",
        dilation: Size = 1, bias: bool = False, padding_mode: str = "zeros", *,
        device: Device = None, dtype: torch.dtype | None = None,
    ):  # fmt: skip
        super().__init__(in_channels, out_channels, geometry(kernel_size, stride, padding, dilation, padding_mode))
        if in_channels % 2:
            raise UserError(
                f"channel_bottleneck: {in_channels} input channels cannot be halved; choose an even number, or a width "
                "that makes it one"
            )
        half = in_channels // 2
        made: dict[str, Any] = {"padding_mode": padding_mode, "device": device, "dtype": dtype}
        first = SICConv2d(in_channels, half, kernel_size, stride, padding, dilation, **made)
        self.reduction = ConvLayer(first, in_channels, half, device=device, dtype=dtype)
        self.expansion = SICConv2d(half, out_channels, kernel_size, 1, "same", dilation, bias, **made)

    @property
    def bias(self) -> Tensor | None:
        return self.expansion.bias

    @stands_for
    def forward(self, x: Tensor) -> Tensor:
        modules: dict[str, Any] = self._modules
        return modules["expansion"](modules["reduction"](x))

    def takes_operator(self, x: Tensor) -> bool:
        """Asked for the `ConvLayer` around the pair; the pair alone runs the operators of its two layers."""
        parts = self._modules["reduction"]._modules.get("conv"), self._modules["expansion"]
        return all(isinstance(part, HasOperator) and part.takes_operator(x) for part in parts)

    def layer_operator(self, x: Tensor, residual: Tensor | None, norm: Norm) -> Tensor:
        modules: dict[str, Any] = self._modules
        return modules["expansion"].layer_operator(modules["reduction"](x), residual, norm)

    def triton_layer(self, x: Tensor, residual: Tensor | None, norm: Norm) -> Tensor:
        modules: dict[str, Any] = self._modules
        return modules["expansion"].triton_layer(modules["reduction"](x), residual, norm)

    def cost(self, h: int, w: int) -> Cost:
        batch_norm = Cost(params=2 * self.reduction.bn.num_features)
        return self.reduction.conv.cost(h, w) + batch_norm + self.expansion.cost(*out_size(self, h, w))
