"""Slow oracles: the paper's layers as plain loops over numbers, straight from its algorithms 2 to 4.

They share nothing with the code under test but its weights. A map is nested lists [channel][row][column] of float64
scalars that autograd follows, so that the gradients are the loops' own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from efficientconv.layers import Topology

Map = list  # [channel][row][column] of scalar tensors


def numbers(tensor: Tensor) -> list | Tensor:
    """Nested lists of the scalars of `tensor`."""
    return tensor if tensor.dim() == 0 else [numbers(part) for part in tensor.unbind()]


def tensor_of(nested: list | Tensor) -> Tensor:
    return nested if isinstance(nested, Tensor) else torch.stack([tensor_of(part) for part in nested])


def on_batch(oracle: Callable[[Map], Map], images: Tensor) -> Tensor:
    return tensor_of([oracle(numbers(image)) for image in images])


# ---------------------------------------------------------------- the parts of the algorithms


def pixel(plane: list, row: int, column: int) -> Tensor | int:
    """Zero outside the map."""
    inside = 0 <= row < len(plane) and 0 <= column < len(plane[0])
    return plane[row][column] if inside else 0


def filtered(plane: list, kernel: list) -> list:
    """`plane` correlated with a k x k `kernel`, k odd, zero padding that keeps its size."""
    k, middle = len(kernel), len(kernel) // 2
    return [
        [
            sum(kernel[u][v] * pixel(plane, i + u - middle, j + v - middle) for u in range(k) for v in range(k))
            for j in range(len(plane[0]))
        ]
        for i in range(len(plane))
    ]


def added(planes: list) -> list:
    return [[sum(plane[i][j] for plane in planes) for j in range(len(planes[0][0]))] for i in range(len(planes[0]))]


def scaled(plane: list, weight: Tensor) -> list:
    return [[weight * value for value in row] for row in plane]


def projected(maps: Map, matrix: list) -> Map:
    return [added([scaled(plane, weight) for plane, weight in zip(maps, row, strict=True)]) for row in matrix]


def rectified(maps: Map) -> Map:
    return [[[value.clamp(min=0) for value in row] for row in plane] for plane in maps]


def normalized(maps: Map, bn: nn.BatchNorm2d) -> Map:
    """Batch norm in evaluation, a channel at a time."""
    mean, var, weight, bias = (numbers(t) for t in (bn.running_mean, bn.running_var, bn.weight, bn.bias))
    return [
        [[(value - mean[c]) / (var[c] + bn.eps) ** 0.5 * weight[c] + bias[c] for value in row] for row in plane]
        for c, plane in enumerate(maps)
    ]


# ---------------------------------------------------------------- topology, algorithm 4


def digits(number: int, dims: tuple[int, ...]) -> list[int]:
    """Row-major position of element `number` in a tensor d1 x ... x ds."""
    position = []
    for d in reversed(dims):
        number, digit = divmod(number, d)
        position.insert(0, digit)
    return position


def number_at(position: list[int], dims: tuple[int, ...]) -> int:
    number = 0
    for digit, d in zip(position, dims, strict=True):
        number = number * d + digit
    return number


def first_offsets(topology: Topology) -> list[int]:
    return [0 if topology.anchor == "corner" else -((c - 1) // 2) for c in topology.connections]


def neighbours(output: int, topology: Topology) -> list[int]:
    """The c inputs that channel `output` sees, wrapping around."""
    at, first = digits(output, topology.dims), first_offsets(topology)
    seen = []
    for t in range(topology.fan):
        step = digits(t, topology.connections)
        seen.append(number_at([(a + f + s) % d for a, f, s, d in zip(at, first, step, topology.dims)], topology.dims))
    return seen


# ---------------------------------------------------------------- the registered layers, with their own arguments


def standard(conv: nn.Module, maps: Map, kernel_size: int) -> Map:
    kernels = numbers(conv.weight)
    return [added([filtered(plane, kernel) for plane, kernel in zip(maps, row, strict=True)]) for row in kernels]


def unravelled(conv: nn.Module, maps: Map, kernel_size: int, bases: int) -> Map:
    """Algorithm 2: channel c's filters are b in a row, and so are the maps that enter the projection."""
    kernels, matrix = numbers(conv.depthwise.weight[:, 0]), numbers(conv.projection.weight[:, :, 0, 0])
    between = [filtered(maps[c], kernels[c * bases + b]) for c in range(len(maps)) for b in range(bases)]
    return projected(between, matrix)


def sic(conv: nn.Module, maps: Map, kernel_size: int, topology: Topology | None = None) -> Map:
    """One step of algorithm 3 before its addition: P G."""
    kernels = numbers(conv.depthwise.weight[:, 0])
    between = [filtered(plane, kernel) for plane, kernel in zip(maps, kernels, strict=True)]
    if topology is not None:
        return topological(conv.projection, between, 1, topology)
    return projected(between, numbers(conv.projection.weight[:, :, 0, 0]))


def sic_sequence(layers: list[nn.Module], maps: Map, residual: bool) -> Map:
    """Algorithm 3: O = I; b times: G = depthwise of O; O = max(0, O + P G). Without residual: O = max(0, P G)."""
    for layer in layers:
        step = sic(layer.conv, maps, layer.conv.kernel_size)
        maps = rectified([added([o, g]) for o, g in zip(maps, step, strict=True)] if residual else step)
    return maps


def topological(conv: nn.Module, maps: Map, kernel_size: int, topology: Topology) -> Map:
    kernels = numbers(conv.weight)
    return [
        added([filtered(maps[i], kernels[o][t]) for t, i in enumerate(neighbours(o, topology))]) for o in range(len(maps))
    ]


def grouped(conv: nn.Module, maps: Map, kernel_size: int, groups: int) -> Map:
    kernels = numbers(conv.weight)
    inputs, outputs = len(maps) // groups, len(kernels) // groups
    return [
        added([filtered(maps[o // outputs * inputs + i], kernels[o][i]) for i in range(inputs)]) for o in range(len(kernels))
    ]


def spatial_bottleneck(conv: nn.Module, maps: Map, kernel_size: int, padding: int = 0) -> Map:
    """Pixel (i, j) lies in the cell ((i + padding) // k, (j + padding) // k) and at the remainders inside it."""
    k, h, w = kernel_size, len(maps[0]), len(maps[0][0])
    reduce, expand = numbers(conv.reduction.weight[:, 0]), numbers(conv.expansion.weight[:, 0])

    def cell(plane: list, kernel: list, a: int, b: int) -> Tensor:
        return sum(kernel[u][v] * pixel(plane, a * k + u - padding, b * k + v - padding) for u in range(k) for v in range(k))

    rows, columns = (h - 1 + padding) // k + 1, (w - 1 + padding) // k + 1
    cells = [
        [[cell(plane, kernel, a, b) for b in range(columns)] for a in range(rows)]
        for plane, kernel in zip(maps, reduce, strict=True)
    ]
    inner = projected(cells, numbers(conv.projection.weight[:, :, 0, 0]))
    return [
        [
            [plane[(i + padding) // k][(j + padding) // k] * kernel[(i + padding) % k][(j + padding) % k] for j in range(w)]
            for i in range(h)
        ]
        for plane, kernel in zip(inner, expand, strict=True)
    ]


def channel_bottleneck(conv: nn.Module, maps: Map, kernel_size: int) -> Map:
    """A whole SIC layer to half the channels, then one without its own batch norm and ReLU."""
    half = rectified(normalized(sic(conv.reduction.conv, maps, kernel_size), conv.reduction.bn))
    return sic(conv.expansion, half, kernel_size)


ORACLES = {
    "channel_bottleneck": channel_bottleneck,
    "grouped": grouped,
    "sic": sic,
    "spatial_bottleneck": spatial_bottleneck,
    "standard": standard,
    "topological": topological,
    "unravelled": unravelled,
}

# Small instances of every registered layer: (input channels, output channels, the layer's own arguments).
LINE = Topology((7,), (4,))
PLANE = Topology((3, 4), (2, 3))
SOLID = Topology((2, 3, 2), (1, 3, 2))
CASES: dict[str, list[tuple[int, int, dict]]] = {
    "channel_bottleneck": [(4, 4, {"kernel_size": 3}), (6, 5, {"kernel_size": 5}), (2, 2, {"kernel_size": 1})],
    "grouped": [
        *((6, 6, {"kernel_size": 3, "groups": g}) for g in (1, 2, 6)),
        (4, 6, {"kernel_size": 1, "groups": 2}),
    ],
    "sic": [
        (4, 4, {"kernel_size": 3}),
        (3, 5, {"kernel_size": 5}),
        (12, 12, {"kernel_size": 3, "topology": PLANE}),
        (12, 12, {"kernel_size": 1, "topology": Topology((2, 3, 2), (2, 2, 1), anchor="corner")}),
    ],
    "spatial_bottleneck": [
        *((3, 3, {"kernel_size": 2, "padding": p}) for p in (0, 1)),
        *((2, 4, {"kernel_size": 3, "padding": p}) for p in (0, 1, 2)),
        (2, 2, {"kernel_size": 1}),
    ],
    "standard": [(3, 3, {"kernel_size": 3}), (4, 2, {"kernel_size": 1}), (2, 3, {"kernel_size": 5})],
    "topological": [
        *((t.channels, t.channels, {"kernel_size": 3, "topology": t}) for t in (LINE, PLANE)),
        (12, 12, {"kernel_size": 1, "topology": SOLID}),
        (6, 6, {"kernel_size": 3, "topology": Topology((2, 3), (2, 2), anchor="corner")}),
        (12, 12, {"kernel_size": 1, "topology": Topology((2, 3, 2), (2, 3, 1), anchor="corner")}),
        (5, 5, {"kernel_size": 3, "topology": Topology((5,), (1,))}),
        (6, 6, {"kernel_size": 3, "topology": Topology((3, 2), (3, 2))}),
    ],
    "unravelled": [
        *((3, 4, {"kernel_size": 3, "bases": b}) for b in (1, 2, 9)),
        (2, 2, {"kernel_size": 5, "bases": 3}),
    ],
}
