"""Spatial bottleneck: the projection is done on a map k times smaller each way (paper, section 2 [S][A])."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.complexity import Cost, conv_cost
from efficientconv.errors import UserError
from efficientconv.layers.backend import have_shapes, own_weights, runs_native, with_kernels
from efficientconv.layers.base import LAYERS
from efficientconv.layers.geometry import Conv2dAttributes, Device, Geometry, Pair, Size, geometry
from efficientconv.native.convolutions import Bottleneck
from efficientconv.native.layer import run_conv
from efficientconv.native.plan import dense_plans


@LAYERS.register("spatial_bottleneck")
class SpatialBottleneckConv2d(Conv2dAttributes):
    """Depthwise k x k with stride k, projection, depthwise transposed k x k with stride k: n x h x w -> m x h x w.

    MACs: (n k^2 + n m + m k^2) h' w', with h' = ceil((h + padding) / k) and w' alike: the projection costs 1 / k^2 of
    SIC's (paper, section 2 [S][A]). Any h and w: the map is padded to whole cells of k x k, `padding` pixels before the
    first row and column, the rest after the last, and cropped back [D].

    Args:
        in_channels, out_channels: n, m.
        kernel_size: k, also the stride of the reduction; 2 in models J and K.
        stride, dilation: 1, for nn.Conv2d's order of arguments: the expansion brings h x w back, and cells have no gaps.
        padding: shifts the grid of cells, 0 .. k - 1. J and K alternate 0 and 1, so that their grids interlock [M].
        bias: of the expansion.
        padding_mode: as nn.Conv2d's.
    Raises:
        UserError: padding outside 0 .. k - 1; a stride or dilation; a geometry without meaning.
    """

    float32_under_autocast = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0,
        dilation: Size = 1, bias: bool = False, padding_mode: str = "zeros", *,
        device: Device = None, dtype: torch.dtype | None = None,
    ):  # fmt: skip
        sizes = geometry(kernel_size, stride, padding, dilation, padding_mode)
        _check_cells(sizes, padding)
        super().__init__(in_channels, out_channels, sizes)
        self.keeps_size = True
        n, m, k, made = in_channels, out_channels, self.kernel_size, {"device": device, "dtype": dtype}
        self.reduction = nn.Conv2d(n, n, k, stride=k, groups=n, bias=False, **made)
        self.projection = nn.Conv2d(n, m, 1, bias=False, **made)
        self.expansion = nn.ConvTranspose2d(m, m, k, stride=k, groups=m, bias=bias, **made)

    @property
    def bias(self) -> Tensor | None:
        return self.expansion.bias

    @with_kernels
    def forward(self, x: Tensor) -> Tensor:
        if runs_native(self, x):
            return run_conv(self, x)
        h, w = x.shape[-2:]
        (rows, columns), (top, left) = self.kernel_size, self.padding
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        # enough for the last cell in any case: the reduction leaves out what is too much
        x = F.pad(x, (left, columns - 1, top, rows - 1), mode)
        y = self.expansion(self.projection(self.reduction(x)))
        # cropped by padding: torch.export cannot prove for all sizes that a slice ends inside whole cells
        return F.pad(y, (-left, left + w - y.shape[-1], -top, top + h - y.shape[-2]))

    def native(self) -> Bottleneck:
        return Bottleneck(self.padding[0], dense_plans(self.in_channels, self.out_channels))

    def native_params(self) -> tuple[Tensor, ...]:
        modules = self._modules
        return own_weights(modules["reduction"], modules["projection"], modules["expansion"])

    def kernels_fit(self) -> bool:
        (n, m), (k, columns), (p, left) = (self.in_channels, self.out_channels), self.kernel_size, self.padding
        unbiased = self._modules["expansion"]._parameters["bias"] is None
        fit = k == columns and p == left and unbiased and self.padding_mode == "zeros"
        return fit and have_shapes(self.native_params(), (n, 1, k, k), (m, n, 1, 1), (m, 1, k, k))

    def cost(self, h: int, w: int) -> Cost:
        n, m, area, bias = self.in_channels, self.out_channels, math.prod(self.kernel_size), self.bias is not None
        cells = math.prod(self._cells(h, w))
        project = conv_cost(n, n, area, n, cells) + conv_cost(n, m, 1, 1, cells)
        return project + Cost(m * area * cells, m * area + m * bias, m * area * cells)

    def _cells(self, h: int, w: int) -> Pair:
        (rows, columns), (top, left) = self.kernel_size, self.padding
        return math.ceil((h + top) / rows), math.ceil((w + left) / columns)


def _check_cells(sizes: Geometry, padding: Size) -> None:
    if isinstance(padding, str) or any(p >= k for p, k in zip(sizes.padding, sizes.kernel_size)):
        raise UserError(
            f"spatial_bottleneck: kernel_size={sizes.kernel_size} padding={padding!r} is no grid of cells; choose padding, "
            "which shifts the grid, from 0 to kernel_size - 1"
        )
    if sizes.stride != (1, 1):
        raise UserError(
            f"spatial_bottleneck: stride={sizes.stride} is not possible: the expansion brings back each pixel that the "
            "reduction took; leave it out, and pool before or after"
        )
    if sizes.dilation != (1, 1):
        raise UserError(f"spatial_bottleneck: dilation={sizes.dilation} would leave gaps in the grid of cells; leave it out")
