"""Spatial bottleneck: the projection runs on a map with 1 / k of the rows and columns (paper, section 2 [S][A])."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.complexity import Cost, conv_cost
from efficientconv.errors import UserError
from efficientconv.layers.backend import is_plain_inside, runs_operator, stands_for
from efficientconv.layers.base import LAYERS
from efficientconv.layers.cells import crop, spatial_bottleneck_by_cells
from efficientconv.layers.geometry import ONES, Conv2dAttributes, Device, Geometry, Pair, Size, geometry, is_projection
from efficientconv.layers.operators import Norm, conv_backward, convolution, ops


def _spatial_bottleneck(
    x: Tensor, reduction: Tensor, projection: Tensor, expansion: Tensor, stride: int, padding: int
) -> tuple[Tensor, ...]:
    """The output, and for the gradients the reduced and the projected cells."""
    k, p = stride, padding
    reduced = F.conv2d(F.pad(x, (p, k - 1, p, k - 1)), reduction, stride=k, groups=len(reduction))
    projected = F.conv2d(reduced, projection)
    y = F.conv_transpose2d(projected, expansion, stride=k, groups=len(projection))
    return crop(y, p, p, x.shape[-2], x.shape[-1]), reduced, projected


def _spatial_bottleneck_backward(
    grad: Tensor, x: Tensor, reduction: Tensor, projection: Tensor, expansion: Tensor, reduced: Tensor, projected: Tensor,
    stride: int, padding: int, wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    (h, w), (rows, columns), k, p = x.shape[-2:], reduced.shape[-2:], stride, padding
    grad = F.pad(grad, (p, columns * k - p - w, p, rows * k - p - h))
    m, n, inner = *projection.shape[:2], any(wanted[:2])
    grad, grad_expansion = conv_backward(grad, projected, expansion, [True, wanted[3]], k, groups=m, transposed=True)
    grad, grad_projection = conv_backward(grad, reduced, projection, [inner, wanted[2]])
    if not inner:
        return None, None, grad_projection, grad_expansion
    grad, grad_reduction = conv_backward(grad, F.pad(x, (p, k - 1, p, k - 1)), reduction, [True, wanted[1]], k, groups=n)
    return grad[..., p : p + h, p : p + w], grad_reduction, grad_projection, grad_expansion


convolution(
    "spatial_bottleneck", _spatial_bottleneck, _spatial_bottleneck_backward,
    "Tensor reduction, Tensor projection, Tensor expansion", "int stride, int padding", kept=2,
)  # fmt: skip


@LAYERS.register("spatial_bottleneck")
class SpatialBottleneckConv2d(Conv2dAttributes):
    """Depthwise k x k with stride k, projection, depthwise transposed k x k with stride k: n x h x w -> m x h x w.

    MACs: (n k^2 + n m + m k^2) h' w', with h' = ceil((h + padding) / k), and w' by the same formula: the projection costs
    1 / k^2 of SIC's (paper, section 2 [S][A]). h and w are free: the map is padded to whole cells of k x k, `padding` pixels
    before the first row and column, the rest after the last. The output is cropped back to h x w [D].

    Args:
        in_channels, out_channels: n, m.
        kernel_size: k, also the stride of the reduction; 2 in models J and K.
        stride, dilation: 1, for nn.Conv2d's order of arguments. The expansion restores h x w, and cells have no gaps.
        padding: shifts the grid of cells, 0 .. k - 1. Layers of J and K alternate 0 and 1, so that grids interlock [M].
        bias: of the expansion; by default there is none.
        padding_mode: as for nn.Conv2d.
    Raises:
        UserError: padding outside 0 .. k - 1; a stride or dilation other than 1; an invalid geometry.
    """

    operators = ops.spatial_bottleneck.default, ops.spatial_bottleneck_layer.default
    has_triton_layer = True
    keeps_size = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0,
        dilation: Size = 1, bias: bool = False, padding_mode: str = "zeros", *,
        device: Device = None, dtype: torch.dtype | None = None,
    ):  # fmt: skip
        sizes = geometry(kernel_size, stride, padding, dilation, padding_mode)
        _check_cells(sizes, padding)
        super().__init__(in_channels, out_channels, sizes)
        n, m, k = in_channels, out_channels, self.kernel_size
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.reduction = nn.Conv2d(n, n, k, stride=k, groups=n, bias=False, **made)
        self.projection = nn.Conv2d(n, m, 1, bias=False, **made)
        self.expansion = nn.ConvTranspose2d(m, m, k, stride=k, groups=m, bias=bias, **made)

    @property
    def bias(self) -> Tensor | None:
        return self.expansion.bias

    @stands_for
    def forward(self, x: Tensor) -> Tensor:
        if runs_operator(self, x):
            return self.operator(x)
        if self._runs_by_cells(x):
            return spatial_bottleneck_by_cells(x, *self.operator_arguments())
        (rows, columns), (top, left) = self.kernel_size, self.padding
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        # k - 1 is enough for the last cell; the reduction drops an incomplete cell
        padded = F.pad(x, (left, columns - 1, top, rows - 1), mode)
        y = self.expansion(self.projection(self.reduction(padded)))
        return crop(y, top, left, x.shape[-2], x.shape[-1])

    def _runs_by_cells(self, x: Tensor) -> bool:
        """An operator would hide the sums from the compiler. Not in exported programs, which take maps of any size."""
        return (
            type(x) is Tensor and x.is_cuda and x.dim() == 4 and not torch.compiler.is_exporting() and is_plain_inside(self)
            and self.takes_operator(x)
        )  # fmt: skip

    def takes_operator(self, x: Tensor) -> bool:
        modules: dict[str, Any] = self._modules
        (k, columns), (p, left) = self.kernel_size, self.padding
        return (
            k == columns and p == left and self.padding_mode == "zeros" and is_projection(modules["projection"])
            and all(_is_of_cells(modules[name], self.kernel_size) for name in ("reduction", "expansion"))
        )  # fmt: skip

    def operator(self, x: Tensor) -> Tensor:
        return super().operator(x)[0]

    def triton_layer(self, x: Tensor, residual: Tensor | None, norm: Norm) -> Tensor:
        from efficientconv.fused.layer import spatial_bottleneck_layer  # triton is slow to import

        return spatial_bottleneck_layer(x, *self.operator_arguments(), residual, *norm)

    def operator_arguments(self) -> tuple[Any, ...]:
        modules = self._modules
        weights = (modules[name]._parameters["weight"] for name in ("reduction", "projection", "expansion"))
        return *weights, self.kernel_size[0], self.padding[0]

    def cost(self, h: int, w: int) -> Cost:
        n, m, area, bias = self.in_channels, self.out_channels, math.prod(self.kernel_size), self.bias is not None
        cells = math.prod(self._cells(h, w))
        project = conv_cost(n, n, area, n, cells) + conv_cost(n, m, 1, 1, cells)
        return project + Cost(m * area * cells, m * area + m * bias, m * area * cells)

    def _cells(self, h: int, w: int) -> Pair:
        (rows, columns), (top, left) = self.kernel_size, self.padding
        return math.ceil((h + top) / rows), math.ceil((w + left) / columns)


def _is_of_cells(conv: nn.Conv2d | nn.ConvTranspose2d, cell: Pair) -> bool:
    """Whether a convolution or transposed convolution is depthwise, with the cell as kernel and stride, without bias."""
    return (
        conv.kernel_size == conv.stride == cell and conv.padding == conv.output_padding == (0, 0) and conv.dilation == ONES
        and conv.groups == conv.in_channels == conv.out_channels and conv.padding_mode == "zeros"
        and conv._parameters.get("bias", conv) is None and conv._parameters.get("weight") is not None
    )  # fmt: skip


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
