"""Which input channels an output channel sees under topological subdivisioning, and how a topology is resized.

The n channels, input and output alike, are the row-major elements of a tensor d1 x ... x ds. Output (j1..js) sees the
c1 x ... x cs neighbourhood of its own position, wrapping around (paper, algorithm 4 [A]).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efficientconv.errors import UserError

# A resized topology is refused if its share of connections differs by more: it would be another layer.
MAX_RELATIVE_DRIFT = 0.25


@dataclass(frozen=True)
class Topology:
    """Shape `dims` = (d1..ds) of the channels and `connections` = (c1..cs) of the neighbourhood (paper, algorithm 4 [A]).

        Topology((8, 16), (4, 8))    # 128 channels as 8 x 16; each output channel sees 4 x 8 = 32 of the input channels

    Args:
        anchor: "center" has offsets -floor((c - 1) / 2) .. floor(c / 2) along each dimension (the summary's form [S],
            default [D]); "corner" has 0 .. c - 1 (the printed algorithm [A]). The two differ by a cyclic relabelling.
    Raises:
        UserError: lengths that differ, sizes below 1 or not whole, c_i > d_i, an unknown anchor.
    """

    dims: tuple[int, ...]
    connections: tuple[int, ...]
    anchor: str = "center"

    def __post_init__(self) -> None:
        for name in ("dims", "connections"):
            sizes = getattr(self, name)
            if not isinstance(sizes, Sequence) or not all(isinstance(size, int) for size in sizes):
                raise UserError(f"topology: {name} must be whole numbers, as in Topology((8, 16), (4, 8)), got {sizes!r}")
            object.__setattr__(self, name, tuple(sizes))
        if not self.dims or len(self.dims) != len(self.connections):
            raise UserError(f"topology: {self} needs one number of connections for each of one or more dimensions")
        for d, c in zip(self.dims, self.connections):
            if not 1 <= c <= d:
                raise UserError(f"topology: {self} has {c} connections along a dimension of {d}; choose 1 to {d} for it")
        if self.anchor not in ("center", "corner"):
            raise UserError(f"topology: anchor='{self.anchor}' is unknown; choose center or corner")

    def __str__(self) -> str:
        return f"dims={list(self.dims)} connections={list(self.connections)}"

    @property
    def channels(self) -> int:
        """n = prod d_i."""
        return math.prod(self.dims)

    @property
    def fan(self) -> int:
        """c = prod c_i: the number of inputs of each output channel, and of outputs of each input channel."""
        return math.prod(self.connections)

    def neighbours(self) -> Tensor:
        """Input channels of each output channel: int64, n x c, offsets in row-major order."""
        channels = torch.zeros(1, 1, dtype=torch.int64, device="cpu")  # plans need it on the CPU, whatever the default is
        for d, c in zip(self.dims, self.connections):
            start = -((c - 1) // 2) if self.anchor == "center" else 0
            along = (torch.arange(d, device="cpu")[:, None] + torch.arange(start, start + c, device="cpu")) % d  # d x c
            channels = channels[:, None, :, None] * d + along[:, None, :]  # row-major: this dimension varies fastest
            channels = channels.flatten(2).flatten(0, 1)
        return channels

    def resized(self, channels: int) -> Topology:
        """The nearest topology of `channels` channels [D].

        The dimensions shrink as evenly, in ratio, as the divisors of `channels` allow; connections shrink in proportion.
        Among equals the one that keeps c / n best is taken; then the one with the smallest largest dimension.

        Raises:
            UserError: no topology keeps c / n within 25 %.
        """
        if channels == self.channels:
            return self
        share = (channels / self.channels) ** (1 / len(self.dims))
        target = self.fan / self.channels
        best = min(
            (self._candidate(dims, target) for dims in _factorizations(channels, len(self.dims))),
            key=lambda t: (_distance(t.dims, self.dims, share), abs(t.fan / channels - target), max(t.dims)),
        )
        if abs(best.fan / channels / target - 1) > MAX_RELATIVE_DRIFT:
            raise UserError(
                f"topology: {self} does not fit {channels} channels: the nearest, {best}, keeps {best.fan}/{channels} of "
                f"the connections instead of {self.fan}/{self.channels}; choose a width that is a power of two"
            )
        return best

    def _candidate(self, dims: tuple[int, ...], target: float) -> Topology:
        """`dims` with each c_i rounded down or up, so that c / n is nearest to `target` (the larger on a tie)."""
        exact = [c * new / old for c, new, old in zip(self.connections, dims, self.dims)]
        choices = [{max(1, math.floor(e)), min(d, math.ceil(e))} for e, d in zip(exact, dims)]
        connections = min(
            itertools.product(*choices), key=lambda c: (abs(math.prod(c) / math.prod(dims) - target), -math.prod(c))
        )
        return Topology(dims, connections, self.anchor)


def as_arguments(topology: Topology | None) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    """`topology` as an operator's arguments; None: every output sees every input."""
    return ((), (), "center") if topology is None else (topology.dims, topology.connections, topology.anchor)


def _factorizations(n: int, parts: int) -> list[tuple[int, ...]]:
    """All ordered ways to write n as a product of `parts` factors."""
    if parts == 1:
        return [(n,)]
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    return [(d, *rest) for d in divisors for rest in _factorizations(n // d, parts - 1)]


def _distance(dims: tuple[int, ...], old: tuple[int, ...], share: float) -> float:
    """How unevenly `old` shrinks to `dims`. Rounded, so that the same ratios in another order tie."""
    return round(sum(math.log(new / (o * share)) ** 2 for new, o in zip(dims, old)), 6)
