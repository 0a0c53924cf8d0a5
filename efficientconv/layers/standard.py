"""The standard convolution: the other layers are measured against it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from efficientconv.layers.backend import HasOperator
from efficientconv.layers.base import LAYERS
from efficientconv.layers.geometry import Device, Padding, Size, fits_operator
from efficientconv.layers.grouped import GroupedConv2d
from efficientconv.layers.topological import TopologicalConv2d
from efficientconv.layers.topology import as_arguments


@LAYERS.register("standard")
class StandardConv2d(HasOperator, GroupedConv2d):
    """k x k convolution over all channels, n x h x w -> m x h' x w'.

    This is the grouped convolution with one group. MACs: n m k^2 h' w' (paper, section 2 [S]).

    Args:
        in_channels, out_channels: n, m.
        kernel_size, stride, padding, dilation, bias, padding_mode: as for nn.Conv2d; by default padding is "same", which
            goes with a stride, too (ceil(h / stride) rows), and there is no bias.
    Raises:
        UserError: no channels; an invalid geometry.
    """

    operators = TopologicalConv2d.operators  # they also take a weight without a topology

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Padding = "same",
        dilation: Size = 1, bias: bool = False, padding_mode: str = "zeros", *,
        device: Device = None, dtype: torch.dtype | None = None,
    ):  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, bias, padding_mode,
            groups=1, device=device, dtype=dtype,
        )  # fmt: skip

    def takes_operator(self, x: Tensor) -> bool:
        """Only 1 x 1 on contiguous maps, which the operator keeps contiguous. On channels-last maps PyTorch is as fast."""
        return self.kernel_size == (1, 1) and x.is_contiguous() and fits_operator(self)

    def operator_arguments(self) -> tuple[Any, ...]:
        return self._parameters["weight"], 0, *as_arguments(None)
