"""Weighted sums over cells of k x k pixels, one number for each cell and channel, and their gradients."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from efficientconv.fused.norm import End, expanded, gradient, load_norm
from efficientconv.fused.positions import (
    by_tap,
    chunks,
    launch,
    load,
    load_row,
    pixel,
    store,
    store_sums,
    tiles,
    zeros,
)


def reduced(x: Tensor, reduction: Tensor, padding: int) -> Tensor:
    """B x H x W x C, C x 1 x k x k -> B x rows x columns x C. The first cell begins `padding` pixels outside the map."""
    batch, h, w, channels = x.shape
    k = reduction.shape[2]
    y = x.new_empty(batch, triton.cdiv(h + padding, k), triton.cdiv(w + padding, k), channels)
    cells = y[..., 0].numel()
    grid, tile = tiles(cells, channels)
    launch(_reduce, grid, x, by_tap(reduction), y, cells, *y.shape[1:3], h, w, channels, K=k, PAD=padding, **tile)
    return y


def reduction_gradients(
    dreduced: Tensor, x: Tensor, reduction: Tensor, padding: int, end: End, own: bool, grad: Tensor, statistics: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the maps x and of the weights. own: x is also the end's residual, whose gradient is added to x's."""
    k = end.stride
    channels = x.shape[3]
    cells, dx = dreduced[..., 0].numel(), x.new_empty(x.shape)
    grid, chunk = chunks(cells, channels)
    parts = statistics.new_empty(grid[0], channels, k * k)
    launch(
        _reduce_gradients, grid, dreduced, x, by_tap(reduction), grad, end.projected,
        end.expansion, statistics, end.gamma, end.beta, dx, parts, cells, *dreduced.shape[1:3], *x.shape[1:],
        K=k, PAD=padding, RESIDUAL=own, **chunk,
    )  # fmt: skip
    return dx, parts.sum(0).view(reduction.shape)


@triton.jit
def _reduce(
    x, reduction, y, P, ROWS, COLUMNS, H, W, C, K: tl.constexpr, PAD: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr
):
    p = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    total = tl.zeros((BP, BC), tl.float32)
    for tap in tl.static_range(K * K):
        place, inside = pixel(p, tap, P, ROWS, COLUMNS, H, W, K, PAD)
        total += load(x, place, inside, c, C) * load_row(reduction, tap, c, C)
    store(y, total, p, p < P, c, C)


@triton.jit
def _reduce_gradients(
    dreduced, x, reduction, grad, projected, expansion, statistics, gamma, beta, dx, parts, P, ROWS, COLUMNS, H, W, C, EACH,
    K: tl.constexpr, PAD: tl.constexpr, RESIDUAL: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    norm = load_norm(statistics, gamma, beta, c, C)
    sums = zeros(K * K, BP, BC)
    for block in range(tl.program_id(0) * EACH, (tl.program_id(0) + 1) * EACH):
        p = block * BP + tl.arange(0, BP)
        dcells = load(dreduced, p, p < P, c, C)
        more = ()
        for tap in tl.static_range(K * K):
            place, inside = pixel(p, tap, P, ROWS, COLUMNS, H, W, K, PAD)
            maps = load(x, place, inside, c, C)
            total = dcells * load_row(reduction, tap, c, C)
            if RESIDUAL:
                y = expanded(load(projected, p, p < P, c, C), expansion, tap, c, C, True)
                total += gradient(load(grad, place, inside, c, C), y, maps, norm)
            store(dx, total, place, inside, c, C)
            more = more + (sums[tap] + dcells * maps,)
        sums = more
    store_sums(parts, sums, c, C, K * K)
