"""Channel-wise bottleneck: a pair of SIC layers through half the channels (paper, deep models [M][C])."""

from __future__ import annotations

from torch import Tensor, nn

from efficientconv.complexity import Cost
from efficientconv.errors import UserError
from efficientconv.layers.backend import WithKernels
from efficientconv.layers.base import LAYERS, ConvLayer
from efficientconv.layers.sic import SICConv2d
from efficientconv.native.convolutions import Epilogue


@LAYERS.register("channel_bottleneck")
class ChannelBottleneckConv2d(WithKernels, nn.Module):
    """A SIC layer n -> n / 2 with its batch norm and ReLU, then SIC n / 2 -> m: n x h x w -> m x h x w, without bias.

    MACs: (n k^2 + n^2 / 2 + n k^2 / 2 + n m / 2) h w: a pair costs about one SIC layer [M][C]. In a `ConvLayer` the
    residual connection is around the pair [D].

    Args:
        in_channels, out_channels: n (even), m.
        kernel_size: k, odd.
    Raises:
        UserError: an odd number of input channels; a kernel size that cannot keep h x w.
    """

    float32_under_autocast = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__()
        if in_channels % 2:
            raise UserError(
                f"channel_bottleneck: {in_channels} input channels cannot be halved; choose an even number, or a width "
                "that makes it one"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        half = in_channels // 2
        self.reduction = ConvLayer(SICConv2d(in_channels, half, kernel_size), in_channels, half)
        self.expansion = SICConv2d(half, out_channels, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.expansion(self.reduction(x))

    def kernels_pay(self, x: Tensor) -> bool:
        return self.reduction.conv.kernels_pay(x)

    def weights_fit(self) -> bool:
        first, second = self.reduction.conv, self.expansion
        ends = first.in_channels, first.out_channels, second.out_channels
        alike = ends == (self.in_channels, second.in_channels, self.out_channels)
        return alike and first.weights_fit() and second.weights_fit()

    def native_infer(self, x: Tensor, epilogue: Epilogue) -> Tensor:
        """The pair with the epilogue on its second half, for inference."""
        return self.expansion.native_infer(self.reduction(x).float().contiguous(), epilogue)

    def cost(self, h: int, w: int) -> Cost:
        batch_norm = Cost(params=2 * self.reduction.bn.num_features)
        return self.reduction.conv.cost(h, w) + batch_norm + self.expansion.cost(h, w)
