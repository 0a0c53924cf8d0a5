"""SIC, single intra-channel convolution (paper, algorithm 3 [A])."""

from __future__ import annotations

import torch
from torch import Tensor

from efficientconv.layers.backend import is_fast_autocast, is_inference
from efficientconv.layers.base import LAYERS
from efficientconv.layers.geometry import Device, Padding, Size
from efficientconv.layers.operators import Norm
from efficientconv.layers.topological import TopologicalConv2d
from efficientconv.layers.topology import Topology
from efficientconv.layers.unravelled import UnravelledConv2d


@LAYERS.register("sic")
class SICConv2d(UnravelledConv2d):
    """One k x k filter a channel, then a linear projection, nothing between: n x h x w -> m x h' x w'.

    This is the unravelled convolution with b = 1. MACs: (n k^2 + n m) h' w', about 1 / k^2 of the standard layer where
    k^2 << n (paper, section 2 [S][A]); with a topology on the projection, (n k^2 + n c) h' w' (model I [S]). The paper's SIC
    layer is this convolution in a `ConvLayer`, with residual connection and ReLU. `residual=False` is the paper's ablation.

    Args:
        in_channels, out_channels: n, m.
        kernel_size, stride, padding, dilation, padding_mode: of the filters, as for nn.Conv2d; by default padding is "same",
            which goes with a stride, too (ceil(h / stride) rows).
        bias, groups: of the projection; by default there is no bias.
        topology: the projection's connections; None: all.
    Raises:
        UserError: an invalid geometry; channels that do not fill the topology.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Padding = "same",
        dilation: Size = 1, bias: bool = False, padding_mode: str = "zeros", *, groups: int = 1,
        topology: Topology | None = None, device: Device = None, dtype: torch.dtype | None = None,
    ):  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, bias, padding_mode,
            bases=1, groups=groups, topology=topology, device=device, dtype=dtype,
        )  # fmt: skip

    has_triton_layer = True

    def triton_layer(self, x: Tensor, residual: Tensor | None, norm: Norm) -> Tensor:
        from efficientconv.fused.layer import sic_layer  # triton is slow to import, and not everywhere installed

        filters, weight, _, padding, *_ = self.operator_arguments()
        projection = self._modules["projection"]
        if isinstance(projection, TopologicalConv2d):  # its neighbours lie on the GPU already
            weight = projection.dense_weight()
        return sic_layer(x, filters, weight, padding, residual, *norm)

    def takes_operator(self, x: Tensor) -> bool:
        return (self.layer_backend != "auto" or self._pays(x)) and super().takes_operator(x)

    def _pays(self, x: Tensor) -> bool:
        """Whether kernels are as fast as PyTorch. Two cases are slower, both of dense projections in training: maps smaller
        than 4 x 4, and 3 x 3 filters where PyTorch may compute in bfloat16.

        The bounds were measured on a CPU, on models with channels-last input; PyTorch keeps the maps channels-last.
        """
        if not x.is_cpu or self.topology is not None:
            return True
        slow = x.shape[2] * x.shape[3] < 16 or self.kernel_size <= (3, 3) and is_fast_autocast()
        return not slow or is_inference(x, *self.parameters())
