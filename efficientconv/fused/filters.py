"""Depthwise filters over maps of B x H x W x C, stride 1, and their gradients."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from efficientconv.fused.norm import End, gradient, load_norm
from efficientconv.fused.positions import by_tap, chunks, launch, load, load_row, store, store_sums, tiles, zeros


def filtered(x: Tensor, filters: Tensor, padding: int) -> Tensor:
    """Depthwise convolution: B x H x W x C, C x 1 x k x l -> B x OH x OW x C."""
    batch, h, w, channels = x.shape
    rows, columns = filters.shape[2:]
    y = x.new_empty(batch, h + 2 * padding - rows + 1, w + 2 * padding - columns + 1, channels)
    positions = y[..., 0].numel()
    grid, tile = tiles(positions, channels, rows * columns)
    launch(
        _filter, grid, x, by_tap(filters), y, positions, h, w, y.shape[1], y.shape[2], channels,
        ROWS=rows, COLUMNS=columns, PAD=padding, **tile,
    )  # fmt: skip
    return y


def filter_gradients(
    dy: Tensor, x: Tensor, filters: Tensor, padding: int, end: End, own: bool, grad: Tensor, statistics: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the maps x and of the filters. own: x is also the end's residual, whose gradient is added to x's."""
    batch, h, w, channels = x.shape
    rows, columns = filters.shape[2:]
    positions, dx = batch * h * w, x.new_empty(x.shape)
    grid, chunk = chunks(positions, channels, rows * columns)
    parts = statistics.new_empty(grid[0], channels, rows * columns)
    launch(
        _filter_gradients, grid, dy, x, by_tap(filters), grad, end.projected,
        statistics, end.gamma, end.beta, dx, parts, positions, h, w, dy.shape[1], dy.shape[2], channels,
        ROWS=rows, COLUMNS=columns, PAD=padding, RESIDUAL=own, **chunk,
    )  # fmt: skip
    return dx, parts.sum(0).view(filters.shape)


@triton.jit
def _filter(
    x, filters, y, P, H, W, OH, OW, C,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PAD: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    image, h, w = p // (OH * OW), p // OW % OH, p % OW
    total = tl.zeros((BP, BC), tl.float32)
    for tap in tl.static_range(ROWS * COLUMNS):
        i, j = h + tap // COLUMNS - PAD, w + tap % COLUMNS - PAD
        inside = (p < P) & (i >= 0) & (i < H) & (j >= 0) & (j < W)
        total += load(x, (image * H + i) * W + j, inside, c, C) * load_row(filters, tap, c, C)
    store(y, total, p, p < P, c, C)


@triton.jit
def _filter_gradients(
    dy, x, filters, grad, projected, statistics, gamma, beta, dx, parts, P, H, W, OH, OW, C, EACH,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PAD: tl.constexpr, RESIDUAL: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Both gradients use the same loads of dy."""
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    norm = load_norm(statistics, gamma, beta, c, C)
    sums = zeros(ROWS * COLUMNS, BP, BC)
    for block in range(tl.program_id(0) * EACH, (tl.program_id(0) + 1) * EACH):
        p = block * BP + tl.arange(0, BP)
        image, h, w = p // (H * W), p // W % H, p % W
        maps = load(x, p, p < P, c, C)
        total = tl.zeros((BP, BC), tl.float32)
        if RESIDUAL:
            y = load(projected, p, p < P, c, C)
            total = gradient(load(grad, p, p < P, c, C), y, maps, norm)
        more = ()
        for tap in tl.static_range(ROWS * COLUMNS):
            i, j = h - tap // COLUMNS + PAD, w - tap % COLUMNS + PAD
            inside = (p < P) & (i >= 0) & (i < OH) & (j >= 0) & (j < OW)
            reached = load(dy, (image * OH + i) * OW + j, inside, c, C)
            total += reached * load_row(filters, tap, c, C)
            more = more + (sums[tap] + reached * maps,)
        sums = more
        store(dx, total, p, p < P, c, C)
    store_sums(parts, sums, c, C, ROWS * COLUMNS)
