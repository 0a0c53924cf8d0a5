"""Slow oracles: the paper's layers as plain loops over numbers, straight from its algorithms 2 to 4.

They share nothing with the code under test but its weights. A map is nested lists [channel][row][column] of float64
scalars that autograd follows, so that the gradients are the loops' own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from efficientconv.layers import LAYERS, Topology

Map = list  # [channel][row][column] of scalar tensors


def numbers(tensor: Tensor) -> list | Tensor:
    """Nested lists of the scalars of `tensor`."""
    return tensor if tensor.dim() == 0 else [numbers(part) for part in tensor.unbind()]


def tensor_of(nested: list | Tensor) -> Tensor:
    return nested if isinstance(nested, Tensor) else torch.stack([tensor_of(part) for part in nested])


def on_batch(oracle: Callable[[Map], Map], images: Tensor) -> Tensor:
    return tensor_of([oracle(numbers(image)) for image in images])


# ---------------------------------------------------------------- the parts of the algorithms


def place(at: int, size: int, mode: str) -> int | None:
    """Which of `size` places stands at `at`, that may lie outside; None: a zero."""
    if 0 <= at < size:
        return at
    mirrored = -at if at < 0 else 2 * (size - 1) - at
    return {"zeros": None, "replicate": min(max(at, 0), size - 1), "circular": at % size, "reflect": mirrored}[mode]


def pixel(plane: list, row: int, column: int, mode: str = "zeros") -> Tensor | int:
    i, j = place(row, len(plane), mode), place(column, len(plane[0]), mode)
    return 0 if i is None or j is None else plane[i][j]


def two(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def filtered(
    plane: list,
    kernel: list,
    stride: int | tuple = 1,
    padding: int | tuple | str = "same",
    dilation: int | tuple = 1,
    padding_mode: str = "zeros",
) -> list:
    """`plane` correlated with `kernel`: nn.Conv2d's formula; "same" has the kernel's middle on each stride-th pixel."""
    (rows, columns), (down, across), (dk, dl) = (len(kernel), len(kernel[0])), two(stride), two(dilation)
    named = {"same": (rows // 2 * dk, columns // 2 * dl), "valid": (0, 0)}
    top, left = named[padding] if isinstance(padding, str) else two(padding)
    last_row, last_column = len(plane) + top - 1 - (rows - 1) * dk, len(plane[0]) + left - 1 - (columns - 1) * dl
    return [
        [
            sum(
                kernel[u][v] * pixel(plane, i + u * dk, j + v * dl, padding_mode)
                for u in range(rows)
                for v in range(columns)
            )
            for j in range(-left, last_column + 1, across)
        ]
        for i in range(-top, last_row + 1, down)
    ]


def shifted(maps: Map, biases: Tensor | None) -> Map:
    """A bias for each map."""
    if biases is None:
        return maps
    return [[[value + bias for value in row] for row in plane] for plane, bias in zip(maps, numbers(biases), strict=True)]


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


# ---------------------------------------------------------------- the registered layers, with their own arguments;
# kernel sizes and whether there is a bias are read from the weights, `sizes` is what `filtered` takes


def standard(conv: nn.Module, maps: Map, kernel_size: object, bias: bool = False, **sizes: object) -> Map:
    kernels = numbers(conv.weight)
    planes = [added([filtered(plane, kernel, **sizes) for plane, kernel in zip(maps, row, strict=True)]) for row in kernels]
    return shifted(planes, conv.bias)


def unravelled(
    conv: nn.Module,
    maps: Map,
    kernel_size: object,
    bases: int,
    topology: Topology | None = None,
    bias: bool = False,
    **sizes: object,
) -> Map:
    """Algorithm 2: channel c's filters are b in a row, and so are the maps that enter the projection."""
    kernels = numbers(conv.depthwise.weight[:, 0])
    between = [filtered(maps[c], kernels[c * bases + b], **sizes) for c in range(len(maps)) for b in range(bases)]
    if topology is not None:
        return topological(conv.projection, between, 1, topology)
    return shifted(projected(between, numbers(conv.projection.weight[:, :, 0, 0])), conv.projection.bias)


def sic(conv: nn.Module, maps: Map, kernel_size: object, topology: Topology | None = None, **args: object) -> Map:
    """One step of algorithm 3 before its addition: P G."""
    return unravelled(conv, maps, kernel_size, 1, topology, **args)


def sic_sequence(layers: list[nn.Module], maps: Map, residual: bool) -> Map:
    """Algorithm 3: O = I; b times: G = depthwise of O; O = max(0, O + P G). Without residual: O = max(0, P G)."""
    for layer in layers:
        step = sic(layer.conv, maps, layer.conv.kernel_size)
        maps = rectified([added([o, g]) for o, g in zip(maps, step, strict=True)] if residual else step)
    return maps


def topological(
    conv: nn.Module, maps: Map, kernel_size: object, topology: Topology, bias: bool = False, **sizes: object
) -> Map:
    kernels = numbers(conv.weight)
    planes = [
        added([filtered(maps[i], kernels[o][t], **sizes) for t, i in enumerate(neighbours(o, topology))])
        for o in range(len(maps))
    ]
    return shifted(planes, conv.bias)


def grouped(conv: nn.Module, maps: Map, kernel_size: object, groups: int, bias: bool = False, **sizes: object) -> Map:
    kernels = numbers(conv.weight)
    inputs, outputs = len(maps) // groups, len(kernels) // groups
    planes = [
        added([filtered(maps[o // outputs * inputs + i], kernels[o][i], **sizes) for i in range(inputs)])
        for o in range(len(kernels))
    ]
    return shifted(planes, conv.bias)


def spatial_bottleneck(
    conv: nn.Module,
    maps: Map,
    kernel_size: int | tuple,
    padding: int | tuple = 0,
    bias: bool = False,
    padding_mode: str = "zeros",
) -> Map:
    """Pixel (i, j) lies in the cell ((i + padding) // k, (j + padding) // k) and at the remainders inside it."""
    (k, k2), (p, q), h, w = two(kernel_size), two(padding), len(maps[0]), len(maps[0][0])
    reduce, expand = numbers(conv.reduction.weight[:, 0]), numbers(conv.expansion.weight[:, 0])

    def cell(plane: list, kernel: list, a: int, b: int) -> Tensor:
        return sum(
            kernel[u][v] * pixel(plane, a * k + u - p, b * k2 + v - q, padding_mode) for u in range(k) for v in range(k2)
        )

    rows, columns = (h - 1 + p) // k + 1, (w - 1 + q) // k2 + 1
    cells = [
        [[cell(plane, kernel, a, b) for b in range(columns)] for a in range(rows)]
        for plane, kernel in zip(maps, reduce, strict=True)
    ]
    inner = projected(cells, numbers(conv.projection.weight[:, :, 0, 0]))
    grown = [
        [[plane[(i + p) // k][(j + q) // k2] * kernel[(i + p) % k][(j + q) % k2] for j in range(w)] for i in range(h)]
        for plane, kernel in zip(inner, expand, strict=True)
    ]
    return shifted(grown, conv.expansion.bias)


def channel_bottleneck(conv: nn.Module, maps: Map, kernel_size: object, bias: bool = False, **sizes: object) -> Map:
    """A whole SIC layer to half the channels, then one without its own batch norm and ReLU, which keeps the maps' size."""
    half = rectified(normalized(sic(conv.reduction.conv, maps, kernel_size, **sizes), conv.reduction.bn))
    return sic(conv.expansion, half, kernel_size, **{k: v for k, v in sizes.items() if k in ("dilation", "padding_mode")})


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
        (3, 6, {"kernel_size": 3, "bases": 2, "topology": Topology((2, 3), (1, 2))}),
    ],
}

# What each layer needs beside kernel_size, with its channels; and nn.Conv2d's arguments, for all but the spatial bottleneck.
NEEDS: dict[str, tuple[int, int, dict]] = {
    "channel_bottleneck": (4, 3, {}),
    "grouped": (4, 2, {"groups": 2}),
    "sic": (2, 3, {}),
    "spatial_bottleneck": (2, 3, {}),
    "standard": (2, 3, {}),
    "topological": (3, 3, {"topology": Topology((3,), (2,))}),
    "unravelled": (2, 3, {"bases": 2}),
}
for name in LAYERS.names():  # a new layer that needs nothing beside nn.Conv2d's arguments needs no entry above
    CASES.setdefault(name, [(4, 4, {"kernel_size": 3}), (2, 3, {"kernel_size": 1})])
    NEEDS.setdefault(name, (2, 3, {}))
SIZES: list[dict] = [
    {"kernel_size": 3, "stride": 2},
    {"kernel_size": 3, "stride": (2, 1), "bias": True},
    {"kernel_size": (3, 1), "padding": "valid"},
    {"kernel_size": (1, 3), "padding": (0, 2), "dilation": 2, "stride": (3, 2)},
    {"kernel_size": 3, "dilation": 2, "bias": True},
    *({"kernel_size": 3, "padding_mode": mode, "stride": 2} for mode in ("reflect", "replicate", "circular")),
]
CELLS: list[dict] = [  # the spatial bottleneck's own
    {"kernel_size": (2, 3), "padding": (1, 0), "bias": True},
    {"kernel_size": (1, 2)},
    *({"kernel_size": 2, "padding": 1, "padding_mode": mode} for mode in ("reflect", "replicate", "circular")),
]
SIZED_CASES = [
    (name, n, m, {**sizes, **args})
    for name, (n, m, args) in NEEDS.items()
    for sizes in (CELLS if name == "spatial_bottleneck" else SIZES)
]
