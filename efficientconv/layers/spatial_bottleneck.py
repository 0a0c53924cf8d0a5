"""Spatial bottleneck: the projection is done on a map k times smaller each way (paper, section 2 [S][A])."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.complexity import Cost, conv_cost
from efficientconv.errors import UserError
from efficientconv.layers.backend import WithKernels, runs_native
from efficientconv.layers.base import LAYERS
from efficientconv.native.convolutions import Bottleneck
from efficientconv.native.layer import run_conv
from efficientconv.native.plan import dense_plans


@LAYERS.register("spatial_bottleneck")
class SpatialBottleneckConv2d(WithKernels, nn.Module):
    """Depthwise k x k with stride k, projection, depthwise transposed k x k with stride k: n x h x w -> m x h x w, no bias.

    MACs: (n k^2 + n m + m k^2) h' w', with h' = ceil((h + padding) / k) and w' alike: the projection costs 1 / k^2 of
    SIC's (paper, section 2 [S][A]). Any h and w: the map is padded with zeros to whole cells of k x k, `padding` of them
    before the first row and column, the rest after the last, and cropped back [D].

    Args:
        in_channels, out_channels: n, m.
        kernel_size: k, also the stride; 2 in models J and K.
        padding: shifts the grid of cells, 0 .. k - 1. J and K alternate 0 and 1, so that their grids interlock [M].
    Raises:
        UserError: kernel_size < 1; padding outside 0 .. k - 1.
    """

    float32_under_autocast = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, padding: int = 0):
        super().__init__()
        if kernel_size < 1 or not 0 <= padding < kernel_size:
            raise UserError(
                f"spatial_bottleneck: kernel_size={kernel_size} padding={padding} is no grid of cells; choose "
                "kernel_size >= 1 and padding from 0 to kernel_size - 1"
            )
        n, m, k = in_channels, out_channels, kernel_size
        self.in_channels, self.out_channels, self.kernel_size, self.padding = n, m, k, padding
        self.reduction = nn.Conv2d(n, n, k, stride=k, groups=n, bias=False)
        self.projection = nn.Conv2d(n, m, 1, bias=False)
        self.expansion = nn.ConvTranspose2d(m, m, k, stride=k, groups=m, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if runs_native(self, x):
            return run_conv(self, x)
        h, w = x.shape[-2:]
        k, p = self.kernel_size, self.padding
        bottom, right = self._cells(h) * k - h - p, self._cells(w) * k - w - p
        y = self.expansion(self.projection(self.reduction(F.pad(x, (p, right, p, bottom)))))
        return y[..., p : p + h, p : p + w]

    def native(self) -> Bottleneck:
        return Bottleneck(self.padding, dense_plans(self.in_channels, self.out_channels))

    def native_params(self) -> tuple[Tensor, ...]:
        return self.reduction.weight, self.projection.weight, self.expansion.weight

    def weights_fit(self) -> bool:
        n, m, k = self.in_channels, self.out_channels, self.kernel_size
        reduce, project, expand = self.native_params()
        return reduce.shape == (n, 1, k, k) and project.shape == (m, n, 1, 1) and expand.shape == (m, 1, k, k)

    def cost(self, h: int, w: int) -> Cost:
        n, m, area = self.in_channels, self.out_channels, self.kernel_size**2
        cells = self._cells(h) * self._cells(w)
        project = conv_cost(n, n, area, n, cells) + conv_cost(n, m, 1, 1, cells)
        return project + Cost(m * area * cells, m * area, m * area * cells)

    def _cells(self, size: int) -> int:
        return -(-(size + self.padding) // self.kernel_size)
