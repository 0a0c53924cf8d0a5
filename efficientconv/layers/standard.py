"""The standard convolution: the layer that the others are measured against."""

from __future__ import annotations

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

    The grouped convolution with one group. MACs: n m k^2 h' w' (paper, section 2 [S]).

    Args:
        in_channels, out_channels: n, m.
        kernel_size, stride, padding, dilation, bias, padding_mode: as nn.Conv2d's; padding as `geometry` has it.
    Raises:
        UserError: no channels; a geometry without meaning.
    """

    operators = TopologicalConv2d.operators  # which take a weight without a topology

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
        """The library's own are as fast on channels-last maps; but a 1 x 1 layer leaves contiguous ones as they are."""
        return (
            self.kernel_size == (1, 1) and x.is_contiguous() and fits_operator(self)
            and not torch.is_autocast_enabled(x.device.type)
        )  # fmt: skip

    def operator_arguments(self) -> tuple[object, ...]:
        return self._parameters["weight"], 0, *as_arguments(None)
