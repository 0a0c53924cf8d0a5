"""The end of a layer: relu(batch norm(y) + residual), its statistics and its gradients.

With an expansion of cells of k x k, y = projected x a weight for each pixel of the cell, and y is never stored. Without one
a cell is a pixel and y = projected. Statistics are mean and squared deviations of each chunk, merged (Chan et al., 1979):
sums of squares would cancel in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from efficientconv.fused.positions import chunks, launch, load, load_row, pixel, store, store_sums, tiles, zeros


@dataclass(frozen=True)
class End:
    """Turns the maps `projected`, B x rows x columns x C, into the layer's output, B x H x W x C.

    expansion: weights, pixels of a cell x C; None: no expansion.
    residual: maps to add, B x H x W x C; None: no residual connection.
    """

    projected: Tensor
    expansion: Tensor | None
    residual: Tensor | None
    gamma: Tensor
    beta: Tensor
    size: torch.Size  # H x W
    stride: int = 1
    padding: int = 0

    @property
    def places(self) -> int:
        """Numbers in each channel of batch norm's input."""
        return len(self.projected) * self.size[0] * self.size[1]

    @property
    def cells(self) -> int:
        return self.projected[..., 0].numel()

    @property
    def channels(self) -> int:
        return self.projected.shape[3]

    def statistics(self, eps: float) -> Tensor:
        """The statistics of this batch, 3 x C: mean, 1 / deviation and unbiased variance."""
        grid, chunk = chunks(self.cells, self.channels)
        parts = torch.empty(grid[0], 3, self.channels, dtype=torch.float32, device=self.projected.device)
        launch(_chunk_statistics, grid, *self._y, parts, *self._sizes, **self._constants, **chunk)
        merged, rows = parts.new_empty(3, self.channels), triton.next_power_of_2(grid[0])
        launch(_merge, (triton.cdiv(self.channels, 8),), parts, merged, grid[0], self.channels, eps, BR=rows, BC=8)
        return merged

    def forward(self, statistics: Tensor) -> Tensor:
        out = self.projected.new_empty(len(self.projected), *self.size, self.channels)
        grid, tile = tiles(self.cells, self.channels)
        launch(_norm_relu, grid, *self._y, *self._norm(statistics), out, *self._sizes, **self._ends, **tile)
        return out

    def sums(self, grad: Tensor, statistics: Tensor) -> Tensor:
        """2 x C: gradients of beta and gamma."""
        grid, chunk = chunks(self.cells, self.channels)
        parts = statistics.new_empty(grid[0], 2, self.channels)
        launch(_chunk_sums, grid, grad, *self._y, *self._norm(statistics), parts, *self._sizes, **self._ends, **chunk)
        return parts.sum(0)

    def backward(self, grad: Tensor, statistics: Tensor, sums: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        """Gradients of `projected` and of the expansion, C x pixels."""
        grid, chunk = chunks(self.cells, self.channels)
        dprojected, taps = torch.empty_like(self.projected), 0 if self.expansion is None else len(self.expansion)
        parts = sums.new_empty(grid[0], self.channels, taps)
        args = (grad, *self._y, *self._norm(statistics), sums, dprojected, parts, *self._sizes, self.places)
        launch(_norm_backward, grid, *args, **self._ends, TAPS=taps, TRAINING=training, **chunk)
        return dprojected, parts.sum(0)

    @property
    def _y(self) -> tuple[Tensor, Tensor]:
        return self.projected, self.projected if self.expansion is None else self.expansion

    def _norm(self, statistics: Tensor) -> tuple[Tensor, ...]:
        return self.projected if self.residual is None else self.residual, statistics, self.gamma, self.beta

    @property
    def _sizes(self) -> tuple[int, ...]:
        _, rows, columns, channels = self.projected.shape
        return self.cells, rows, columns, *self.size, channels

    @property
    def _constants(self) -> dict[str, int]:
        return {"EXPANDS": self.expansion is not None, "K": self.stride, "PAD": self.padding}

    @property
    def _ends(self) -> dict[str, int]:
        return self._constants | {"RESIDUAL": self.residual is not None}


@triton.jit
def expanded(cells, expansion, tap: tl.constexpr, c, C, EXPANDS: tl.constexpr):
    if EXPANDS:
        return cells * load_row(expansion, tap, c, C)
    return cells


@triton.jit
def load_norm(statistics, gamma, beta, c, C):
    """Mean, 1 / deviation, gamma and beta of the channels, each 1 x BC."""
    return load_row(statistics, 0, c, C), load_row(statistics, 1, c, C), load_row(gamma, 0, c, C), load_row(beta, 0, c, C)


@triton.jit
def standardised(y, norm):
    return (y - norm[0]) * norm[1]


@triton.jit
def before_relu(y, residual, norm):
    return standardised(y, norm) * norm[2] + norm[3] + residual


@triton.jit
def gradient(grad, y, residual, norm):
    """Gradient of ReLU's input."""
    return tl.where(before_relu(y, residual, norm) > 0, grad, 0.0)


@triton.jit
def _chunk_statistics(
    projected, expansion, parts, P, ROWS, COLUMNS, H, W, C, EACH,
    EXPANDS: tl.constexpr, K: tl.constexpr, PAD: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Number, mean and squared deviations: first of each place of the tile over all tiles, then of all places (Welford)."""
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    number = tl.zeros((BP,), tl.float32)
    mean = tl.zeros((BP, BC), tl.float32)
    squares = tl.zeros((BP, BC), tl.float32)
    for block in range(tl.program_id(0) * EACH, (tl.program_id(0) + 1) * EACH):
        p = block * BP + tl.arange(0, BP)
        cells = load(projected, p, p < P, c, C)
        for tap in tl.static_range(K * K):
            _, inside = pixel(p, tap, P, ROWS, COLUMNS, H, W, K, PAD)
            y = expanded(cells, expansion, tap, c, C, EXPANDS)
            number += inside.to(tl.float32)
            difference = tl.where(inside[:, None], y - mean, 0.0)
            mean += difference / tl.maximum(number, 1.0)[:, None]
            squares += difference * (y - mean)
    total = tl.sum(number, 0)
    whole = tl.sum(mean * number[:, None], 0) / tl.maximum(total, 1.0)
    apart = mean - whole[None, :]
    squares = tl.sum(squares + apart * apart * number[:, None], 0)
    row = parts + tl.program_id(0) * 3 * C + c
    tl.store(row, tl.zeros((BC,), tl.float32) + total, mask=c < C)
    tl.store(row + C, whole, mask=c < C)
    tl.store(row + 2 * C, squares, mask=c < C)


@triton.jit
def _merge(parts, merged, NUMBER, C, eps, BR: tl.constexpr, BC: tl.constexpr):
    r, c = tl.arange(0, BR), tl.program_id(0) * BC + tl.arange(0, BC)
    ok = (r < NUMBER)[:, None] & (c < C)[None, :]
    at = parts + r[:, None] * 3 * C + c[None, :]
    number = tl.load(at, mask=ok, other=0.0)
    means = tl.load(at + C, mask=ok, other=0.0)
    total = tl.maximum(tl.sum(number, 0), 1.0)
    mean = tl.sum(means * number, 0) / total
    apart = means - mean[None, :]
    squares = tl.sum(tl.load(at + 2 * C, mask=ok, other=0.0) + apart * apart * number, 0)
    tl.store(merged + c, mean, mask=c < C)
    tl.store(merged + C + c, 1 / tl.sqrt(squares / total + eps), mask=c < C)
    tl.store(merged + 2 * C + c, squares / tl.maximum(total - 1, 1.0), mask=c < C)


@triton.jit
def _norm_relu(
    projected, expansion, x, statistics, gamma, beta, out, P, ROWS, COLUMNS, H, W, C,
    EXPANDS: tl.constexpr, K: tl.constexpr, PAD: tl.constexpr, RESIDUAL: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    norm = load_norm(statistics, gamma, beta, c, C)
    cells = load(projected, p, p < P, c, C)
    for tap in tl.static_range(K * K):
        place, inside = pixel(p, tap, P, ROWS, COLUMNS, H, W, K, PAD)
        y = expanded(cells, expansion, tap, c, C, EXPANDS)
        residual = load(x, place, inside, c, C) if RESIDUAL else 0.0
        z = before_relu(y, residual, norm)
        store(out, tl.where(z < 0, 0.0, z), place, inside, c, C)  # a maximum would hide nan


@triton.jit
def _chunk_sums(
    grad, projected, expansion, x, statistics, gamma, beta, parts, P, ROWS, COLUMNS, H, W, C, EACH,
    EXPANDS: tl.constexpr, K: tl.constexpr, PAD: tl.constexpr, RESIDUAL: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    norm = load_norm(statistics, gamma, beta, c, C)
    plain = tl.zeros((BP, BC), tl.float32)
    weighted = tl.zeros((BP, BC), tl.float32)
    for block in range(tl.program_id(0) * EACH, (tl.program_id(0) + 1) * EACH):
        p = block * BP + tl.arange(0, BP)
        cells = load(projected, p, p < P, c, C)
        for tap in tl.static_range(K * K):
            place, inside = pixel(p, tap, P, ROWS, COLUMNS, H, W, K, PAD)
            y = expanded(cells, expansion, tap, c, C, EXPANDS)
            residual = load(x, place, inside, c, C) if RESIDUAL else 0.0
            dz = gradient(load(grad, place, inside, c, C), y, residual, norm)
            plain += dz
            weighted += dz * standardised(y, norm)
    row = parts + tl.program_id(0) * 2 * C + c
    tl.store(row, tl.sum(plain, 0), mask=c < C)
    tl.store(row + C, tl.sum(weighted, 0), mask=c < C)


@triton.jit
def _norm_backward(
    grad, projected, expansion, x, statistics, gamma, beta, sums, dprojected, parts, P, ROWS, COLUMNS, H, W, C, PLACES, EACH,
    EXPANDS: tl.constexpr, K: tl.constexpr, PAD: tl.constexpr, RESIDUAL: tl.constexpr, TAPS: tl.constexpr,
    TRAINING: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    norm = load_norm(statistics, gamma, beta, c, C)
    mean, weighted = load_row(sums, 0, c, C) / PLACES, load_row(sums, 1, c, C) / PLACES
    of_taps = zeros(TAPS, BP, BC)
    for block in range(tl.program_id(0) * EACH, (tl.program_id(0) + 1) * EACH):
        p = block * BP + tl.arange(0, BP)
        cells = load(projected, p, p < P, c, C)
        total = tl.zeros((BP, BC), tl.float32)
        more = ()
        for tap in tl.static_range(K * K):
            place, inside = pixel(p, tap, P, ROWS, COLUMNS, H, W, K, PAD)
            y = expanded(cells, expansion, tap, c, C, EXPANDS)
            residual = load(x, place, inside, c, C) if RESIDUAL else 0.0
            dy = gradient(load(grad, place, inside, c, C), y, residual, norm)
            if TRAINING:
                dy -= mean + standardised(y, norm) * weighted
            dy = tl.where(inside[:, None], dy * norm[1] * norm[2], 0.0)
            total += expanded(dy, expansion, tap, c, C, EXPANDS)
            if EXPANDS:
                more = more + (of_taps[tap] + dy * cells,)
        of_taps = more
        store(dprojected, total, p, p < P, c, C)
    store_sums(parts, of_taps, c, C, TAPS)
