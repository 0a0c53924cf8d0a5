"""The spatial bottleneck as sums and products over cells of k x k, for devices whose grouped convolutions are slow.

On a GPU the library's kernels for a depthwise convolution of stride k, and for its transpose, take many times as long as
reading and writing the maps. Plain sums and products take about as long as reading and writing, and a compiler fuses them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from efficientconv.layers.operators import in_order


def spatial_bottleneck_by_cells(
    x: Tensor, reduction: Tensor, projection: Tensor, expansion: Tensor, stride: int, padding: int
) -> Tensor:
    """Equals operators.spatial_bottleneck up to rounding, also under autocast. The result is channels-last where x is."""
    (h, w), k, p = x.shape[-2:], stride, padding
    x, reduction, projection, expansion = as_autocast(x, reduction, projection, expansion)
    rows, columns = -(-(h + p) // k), -(-(w + p) // k)
    fits = (rows * k, columns * k) == (h, w)
    whole = x if fits else F.pad(x, (p, columns * k - p - w, p, rows * k - p - h))
    y = expand(F.conv2d(reduce(whole, reduction), projection), expansion)
    return y if fits else crop(y, p, p, h, w)


def reduce(x: Tensor, weight: Tensor) -> Tensor:
    """Depthwise convolution with stride k: B x n x ka x kb, n x 1 x k x k -> B x n x a x b."""
    n, _, rows, columns = weight.shape
    cells = _channels_behind(x).unflatten(2, (-1, columns)).unflatten(1, (-1, rows))  # B a k b k n
    summed = (cells * weight.view(n, rows, 1, columns).permute(1, 2, 3, 0)).sum((2, 4))
    return in_order(summed.permute(0, 3, 1, 2), x)


def expand(x: Tensor, weight: Tensor) -> Tensor:
    """Transposed depthwise convolution with stride k: B x m x a x b, m x 1 x k x k -> B x m x ka x kb."""
    m, _, rows, columns = weight.shape
    spread = _channels_behind(x)[:, :, None, :, None] * weight.view(m, rows, 1, columns).permute(1, 2, 3, 0)
    return in_order(spread.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2), x)


def crop(y: Tensor, top: int, left: int, h: int, w: int) -> Tensor:
    """h x w of y, by negative padding: torch.export cannot prove for all sizes that a slice ends inside whole cells."""
    return F.pad(y, (-left, left + w - y.shape[-1], -top, top + h - y.shape[-2]))


def _channels_behind(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """`tensors` in autocast's type, if autocast is on: it converts for convolutions, but not for products and sums."""
    device = tensors[0].device.type
    if device == "meta" or not torch.is_autocast_enabled(device):  # autocast knows no meta device
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(t if t.dtype == torch.float64 else t.to(dtype) for t in tensors)  # autocast leaves float64, too
