"""How kernels share the work: a program has a tile of positions x channels, and sums have a fixed order.

Tiles and order depend only on the shapes, so that equal inputs give equal bits.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 2048, 64  # numbers, and the most channels: 16 numbers a thread
SUMMING_TILE = 1024, 32  # 8 numbers a thread: each may have a sum for every tap of a filter
TAPS = 9  # the most taps of a filter for which a thread's registers hold what belongs to these numbers
CHUNKS = 512  # the most chunks of tiles in a sum over all positions


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **sizes: int) -> None:
    """Launches the kernel on the device of the first tensor, which need not be torch's current device."""
    with torch.cuda.device_of(next(a for a in args if isinstance(a, Tensor))):
        kernel[grid](*args, **sizes)


def tiles(positions: int, channels: int, taps: int = 1) -> tuple[tuple[int, int], dict[str, int]]:
    """The grid of programs with a tile each, and the tile's positions and channels."""
    height, width = _tile(*TILE, channels, taps)
    return (triton.cdiv(positions, height), triton.cdiv(channels, width)), {"BP": height, "BC": width}


def chunks(positions: int, channels: int, taps: int = 1) -> tuple[tuple[int, int], dict[str, int]]:
    """The grid of programs that each sum over a chunk of EACH tiles, and the tile's positions and channels."""
    height, width = _tile(*SUMMING_TILE, channels, taps)
    number = triton.cdiv(positions, height)
    each = triton.cdiv(number, CHUNKS)
    return (triton.cdiv(number, each), triton.cdiv(channels, width)), {"EACH": each, "BP": height, "BC": width}


def _tile(numbers: int, widest: int, channels: int, taps: int) -> tuple[int, int]:
    """Positions and channels of a tile. More than TAPS taps get fewer numbers: else registers would spill to memory."""
    width = min(widest, triton.next_power_of_2(channels))
    held = numbers * TAPS // max(taps, TAPS)
    return max(1, 2 ** (held.bit_length() - 1) // width), width


def by_tap(weight: Tensor) -> Tensor:
    """C x 1 x k x l -> k l x C: a program reads its channels side by side."""
    return weight.flatten(1).t().contiguous()


@triton.jit
def pixel(cell, tap: tl.constexpr, P, ROWS, COLUMNS, H, W, K: tl.constexpr, PAD: tl.constexpr):
    """For each of the P cells of B x ROWS x COLUMNS: place of pixel `tap` in B x H x W, and whether it is inside the map."""
    if K == 1:
        return cell, cell < P
    h = cell // COLUMNS % ROWS * K + tap // K - PAD
    w = cell % COLUMNS * K + tap % K - PAD
    inside = (cell < P) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
    return (cell // (ROWS * COLUMNS) * H + h) * W + w, inside


@triton.jit
def load(maps, place, inside, c, C):
    """A tile of positions x channels in float32, with zeros outside the map."""
    ok = inside[:, None] & (c < C)[None, :]
    return tl.load(maps + place.to(tl.int64)[:, None] * C + c[None, :], mask=ok, other=0.0).to(tl.float32)


@triton.jit
def store(maps, values, place, inside, c, C):
    ok = inside[:, None] & (c < C)[None, :]
    tl.store(maps + place.to(tl.int64)[:, None] * C + c[None, :], values.to(maps.dtype.element_ty), mask=ok)


@triton.jit
def load_row(rows, number, c, C):
    """Row `number` of a matrix of C columns, in float32: 1 x BC."""
    return tl.load(rows + number * C + c, mask=c < C, other=0.0).to(tl.float32)[None, :]


@triton.jit
def zeros(NUMBER: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """A tile of sums for each tap."""
    sums = ()
    for _ in tl.static_range(NUMBER):
        sums = sums + (tl.zeros((BP, BC), tl.float32),)
    return sums


@triton.jit
def store_sums(parts, sums, c, C, NUMBER: tl.constexpr):
    """Sums over positions, and stores the sums in this chunk's rows of chunks x C x NUMBER."""
    for tap in tl.static_range(NUMBER):
        tl.store(parts + (tl.program_id(0) * C + c) * NUMBER + tap, tl.sum(sums[tap], 0), mask=c < C)
