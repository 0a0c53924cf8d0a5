"""In which order the native kernels go through the connections: the steps of each tile of four output channels.

A step reads input channel A for the outputs of its mask and, in a pair, input channel B for the other ones (see
csrc/tile.h). Planned once for a connectivity; the weights are packed into the order of the steps at each call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from efficientconv.native import build

if TYPE_CHECKING:  # layers stand on this package, not the other way round
    from efficientconv.layers.topology import Topology

OUTPUTS = 4  # output channels a tile, kOutputs in csrc/tile.h
BLOCK = 3 * build.lanes()  # pixels a block, kBlock there
ALL, PAIR = 15, 16  # the full mask, and what marks a pair's


@dataclass(frozen=True)
class Plan:
    """The steps of a convolution, as the C++ code takes them (all int32).

    tiles: tiles + 1, the first segment of each tile.
    segments: S x 3, kind and first and last-but-one step of each run of steps of one kind.
    steps: T x 2, where inputs A and B start in a panel: BLOCK floats for each channel and tap, row-major in k x k.
    weights: T x 4, the element of the weight for each output of the tile, -1 where the output has no part in the step; or,
        where every output sees the inputs one after the other, 2: how many elements apart outputs and inputs are.
    """

    tiles: Tensor
    segments: Tensor
    steps: Tensor
    weights: Tensor

    def arrays(self) -> list[Tensor]:
        return [self.tiles, self.segments, self.steps, self.weights]


def make_plan(inputs: np.ndarray, slots: np.ndarray, kernel_size: int, flip: bool = False) -> Plan:
    """Plan for output channels that see `inputs`.

    Args:
        inputs: outputs x fan, input channels, each at most once a row.
        slots: outputs x fan, the k x k kernel of the weight that joins the two, counted in kernels.
        kernel_size: k.
        flip: the kernels turned by 180 degrees, for the gradient of the input.
    """
    tiles, segments, steps, weights, done = [0], [], [], [], 0
    area = kernel_size**2
    for first in range(0, len(inputs), OUTPUTS):
        for kind, a, b, slot in _tile(inputs[first : first + OUTPUTS], slots[first : first + OUTPUTS]):
            segments.append((kind, done, done + len(a) * area))
            done += len(a) * area
            taps = np.arange(area)
            rows = np.stack([a, b], axis=1)[:, None, :] * area + taps[None, :, None]
            steps.append(rows.reshape(-1, 2) * BLOCK)
            elements = slot[:, None, :] * area + (taps[::-1] if flip else taps)[None, :, None]
            weights.append(np.where(slot[:, None, :] < 0, -1, elements).reshape(-1, OUTPUTS))
        tiles.append(len(segments))
    rows = (np.array(tiles), np.array(segments), np.concatenate(steps), np.concatenate(weights))
    return Plan(*(torch.from_numpy(np.ascontiguousarray(r, dtype=np.int32)) for r in rows))


def transpose(inputs: np.ndarray, in_channels: int) -> tuple[np.ndarray, np.ndarray]:
    """The same connections seen from the inputs: (outputs that see each input, their slots), both inputs x fan."""
    outputs, fan = inputs.shape
    order = np.argsort(inputs, axis=None, kind="stable").reshape(in_channels, -1)
    return order // fan, order


def _tile(inputs: np.ndarray, slots: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """(kind, channels A, channels B, slots) of each segment of one tile."""
    channels = np.unique(inputs)
    slot = np.full((len(channels), OUTPUTS), -1, dtype=np.int64)
    for output, (seen, its_slots) in enumerate(zip(inputs, slots)):
        slot[np.searchsorted(channels, seen), output] = its_slots
    mask = ((slot >= 0) * (1 << np.arange(OUTPUTS))).sum(axis=1)
    members = {m: np.flatnonzero(mask == m) for m in range(1, ALL + 1)}
    segments = []
    for m in range(1, ALL, 2):  # pairs: what the outputs of a mask see, with what only the others see
        pairs = min(len(members[m]), len(members[ALL - m]))
        a, b = members[m][:pairs], members[ALL - m][:pairs]
        members[m], members[ALL - m] = members[m][pairs:], members[ALL - m][pairs:]
        segments.append((PAIR + m, channels[a], channels[b], np.maximum(slot[a], slot[b])))
    segments += [(m, channels[a], channels[a], slot[a]) for m, a in members.items()]
    return [segment for segment in segments if len(segment[1])]


@dataclass(frozen=True)
class Plans:
    """Both directions of the connections between `inputs` and `outputs` channels, as lists for the C++ code."""

    inputs: int
    outputs: int
    forward: list[Tensor]
    backward: list[Tensor]  # from the outputs' gradients to the inputs'
    dense: bool  # every output sees every input, by one weight


@cache
def topological_plans(topology: Topology, kernel_size: int) -> Plans:
    """For a weight of n x c x k x k, its second axis in the order of `topology.neighbours()`."""
    return _plans(topology.neighbours().numpy(), topology.channels, kernel_size, dense=False)


@cache
def dense_plans(inputs: int, outputs: int) -> Plans:
    """For a 1 x 1 projection's weight, outputs x inputs."""
    return _plans(np.tile(np.arange(inputs), (outputs, 1)), inputs, kernel_size=1, dense=True)


def _plans(neighbours: np.ndarray, inputs: int, kernel_size: int, dense: bool) -> Plans:
    slots = np.arange(neighbours.size).reshape(neighbours.shape)
    forward = make_plan(neighbours, slots, kernel_size)
    backward = make_plan(*transpose(neighbours, inputs), kernel_size, flip=True)
    if dense:
        forward = replace(forward, weights=torch.tensor([inputs, 1], dtype=torch.int32, device="cpu"))
        backward = replace(backward, weights=torch.tensor([1, inputs], dtype=torch.int32, device="cpu"))
    return Plans(inputs, len(neighbours), forward.arrays(), backward.arrays(), dense)


@cache
def stem_plans(inputs: int, outputs: int, kernel_size: int) -> Plans:
    """For a network's first convolution, every input seen by every output; forward only."""
    neighbours = np.tile(np.arange(inputs), (outputs, 1))
    slots = np.arange(neighbours.size).reshape(neighbours.shape)
    return Plans(inputs, outputs, make_plan(neighbours, slots, kernel_size).arrays(), [], dense=False)
