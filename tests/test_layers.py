"""Each layer against plain loops, in exact identities, and in what it refuses."""

from __future__ import annotations

import re

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

import reference
from efficientconv.errors import UserError
from efficientconv.layers import (
    LAYERS,
    ConvLayer,
    SICConv2d,
    SpatialBottleneckConv2d,
    TopologicalConv2d,
    Topology,
    UnravelledConv2d,
    build_layer,
)
from efficientconv.layers.cells import spatial_bottleneck_by_cells
from efficientconv.models import model_config
from efficientconv.registry import Registry
from reference import CASES, LINE, NEEDS, ORACLES, PLANE, SIZED_CASES, SOLID

EACH_CASE = [
    pytest.param(name, *case, id="-".join([name, *map(str, case[:2]), *(f"{k}={v}" for k, v in case[2].items())]))
    for name, *case in [*((name, *case) for name in LAYERS.names() for case in CASES.get(name, [])), *SIZED_CASES]
]
TOPOLOGIES = [LINE, PLANE, SOLID, Topology((3, 4), (3, 3)), Topology((5,), (5,))]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def image(channels: int, h: int = 4, w: int = 3, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, h, w, dtype=torch.float64)


def make(name: str, n: int, m: int, args: dict) -> nn.Module:
    """The bare convolution in float64, evaluating, any batch norm inside it with statistics of its own."""
    conv = LAYERS.get(name)(n, m, **args).double().eval()
    for bn in (module for module in conv.modules() if isinstance(module, nn.BatchNorm2d)):
        for tensor in (bn.weight.data, bn.bias.data, bn.running_mean, bn.running_var):
            tensor.uniform_(0.5, 1.5)
    return conv


def test_every_registered_layer_has_cases_and_an_oracle() -> None:
    assert set(LAYERS.names()) == set(CASES) == set(ORACLES)


# ---------------------------------------------------------------- against the loops


@pytest.mark.parametrize("name, n, m, args", EACH_CASE)
def test_layer_and_its_gradients_equal_the_loops(name: str, n: int, m: int, args: dict) -> None:
    conv, x = make(name, n, m, args), image(n).requires_grad_()
    expected = reference.on_batch(lambda maps: ORACLES[name](conv, maps, **args), x)
    actual = conv(x)
    torch.testing.assert_close(actual, expected)
    leaves, weights = [x, *conv.parameters()], torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad((actual * weights).sum(), leaves), torch.autograd.grad((expected * weights).sum(), leaves)
    )


@pytest.mark.parametrize("name", [name for name in LAYERS.names() if not name.endswith("bottleneck")])
def test_even_kernels_work_where_the_padding_is_given(name: str) -> None:
    n, m, args = NEEDS[name]
    args = {"kernel_size": (4, 2), "stride": 2, "padding": 1, **args}
    conv, x = make(name, n, m, args), image(n)
    torch.testing.assert_close(conv(x), reference.on_batch(lambda maps: ORACLES[name](conv, maps, **args), x))


@pytest.mark.parametrize("residual", [None, True, False])
def test_sic_layers_in_sequence_are_algorithm_3(residual: bool | None) -> None:
    layers = [build_layer("sic", 4, 4, kernel_size=3, residual=residual).double().eval() for _ in range(3)]
    for layer in layers:
        layer.bn.eps = 1e-30  # with its starting statistics batch norm is the identity then, which algorithm 3 has not
    x = image(4).requires_grad_()
    actual = nn.Sequential(*layers)(x)
    expected = reference.on_batch(lambda maps: reference.sic_sequence(layers, maps, residual is not False), x)
    assert (expected == 0).any() and (expected > 0).any()
    torch.testing.assert_close(actual, expected)
    leaves = [x, *(p for layer in layers for p in layer.conv.parameters())]
    torch.testing.assert_close(
        torch.autograd.grad(actual.square().sum(), leaves), torch.autograd.grad(expected.square().sum(), leaves)
    )


@pytest.mark.parametrize("name", LAYERS.names())
def test_batch_norm_stands_before_the_addition_and_relu_after_it(name: str) -> None:
    n, _, args = next(case for case in CASES[name] if case[0] == case[1])
    layer, x = build_layer(name, n, n, **args).double().train(), image(n)
    y = layer.conv(x)
    mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), keepdim=True, unbiased=False)
    torch.testing.assert_close(layer(x), torch.relu((y - mean) / (var + layer.bn.eps).sqrt() + x))


def test_a_module_that_is_no_convolution_may_have_a_dilation_of_its_own() -> None:
    block = nn.MaxPool2d(3, 1, 1)
    assert block.dilation == 1 and ConvLayer(block, 4, 4).residual


def test_residual_stands_where_channels_are_equal_unless_told() -> None:
    assert build_layer("standard", 4, 4, kernel_size=3).residual
    assert not build_layer("standard", 4, 6, kernel_size=3).residual
    assert not build_layer("standard", 4, 4, kernel_size=3, residual=False).residual


@pytest.mark.parametrize(
    ("keeps", "args"),
    [(False, {}),
     (False, {"padding": "valid"}), (False, {"padding": 1, "stride": 2}), (False, {"padding": 1, "dilation": 2}),
     (True, {"padding": "same", "dilation": 2}), (True, {"padding": 2, "dilation": 2})],
)  # fmt: skip
def test_a_residual_is_never_added_to_maps_of_another_size(keeps: bool, args: dict) -> None:
    conv = nn.Conv2d(4, 4, 3, **args)
    assert ConvLayer(conv, 4, 4).residual == keeps
    if not keeps:
        with pytest.raises(UserError, match="keeps height and width"):
            ConvLayer(conv, 4, 4, residual=True)


# ---------------------------------------------------------------- identities


@pytest.mark.parametrize("bases", ["one-hot", "random"])
def test_unravelled_with_k_squared_bases_is_any_standard_convolution(bases: str) -> None:
    n, m, k = 3, 4, 3
    kernel = torch.randn(m, n, k, k, dtype=torch.float64)
    basis = torch.eye(k * k).expand(n, k * k, k * k) if bases == "one-hot" else torch.randn(n, k * k, k * k)
    basis = basis.double()
    shares = torch.linalg.solve(basis, kernel.reshape(m, n, k * k).transpose(0, 1), left=False)  # n x m x k^2
    conv = UnravelledConv2d(n, m, k, bases=k * k).double()
    conv.depthwise.weight.data = basis.reshape(n * k * k, 1, k, k)
    conv.projection.weight.data = shares.transpose(0, 1).reshape(m, n * k * k, 1, 1)
    x = image(n)
    torch.testing.assert_close(conv(x), F.conv2d(x, kernel, padding=1))


@pytest.mark.parametrize("anchor", ["center", "corner"])
@pytest.mark.parametrize("dims", [(6,), (2, 3), (3, 4), (2, 3, 2)], ids=str)
def test_topology_with_all_connections_is_the_dense_layer(dims: tuple[int, ...], anchor: str) -> None:
    topology = Topology(dims, dims, anchor)
    n = topology.channels
    kernel = torch.randn(n, n, 3, 3, dtype=torch.float64)
    conv = TopologicalConv2d(n, n, 3, topology=topology).double()
    conv.weight.data = torch.stack([kernel[o, reference.neighbours(o, topology)] for o in range(n)])
    x = image(n)
    torch.testing.assert_close(conv(x), F.conv2d(x, kernel, padding=1))
    torch.testing.assert_close(conv.dense_weight(), kernel)


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=str)
def test_anchors_differ_by_a_cyclic_relabelling(topology: Topology) -> None:
    n, dims = topology.channels, topology.dims
    center = TopologicalConv2d(n, n, 1, topology=topology).double()
    corner = TopologicalConv2d(n, n, 1, topology=Topology(dims, topology.connections, "corner")).double()
    corner.weight.data = center.weight.data
    back = [(c - 1) // 2 for c in topology.connections]
    positions = [reference.digits(i, dims) for i in range(n)]
    shifted = [reference.number_at([(p - b) % d for p, b, d in zip(at, back, dims)], dims) for at in positions]
    x = image(n)
    torch.testing.assert_close(center(x), corner(x[:, shifted]))
    assert shifted != list(range(n)) and not torch.allclose(center(x), corner(x))


@pytest.mark.parametrize("anchor", ["center", "corner"])
@pytest.mark.parametrize("topology", TOPOLOGIES, ids=str)
def test_neighbours_and_mask_are_those_of_algorithm_4(topology: Topology, anchor: str) -> None:
    topology = Topology(topology.dims, topology.connections, anchor)
    expected = [reference.neighbours(output, topology) for output in range(topology.channels)]
    assert topology.neighbours().tolist() == expected
    dense = TopologicalConv2d(topology.channels, topology.channels, 1, topology=topology).dense_weight()
    assert [sorted(row) for row in expected] == [row.nonzero().flatten().tolist() for row in dense[:, :, 0, 0]]


def test_neighbourhood_of_one_channel_by_hand() -> None:
    """Channel 0 of 4 x 5 sees 2 x 3: rows 0, 1 and columns 4, 0, 1 centred; columns 0, 1, 2 from the corner."""
    assert Topology((4, 5), (2, 3)).neighbours()[0].tolist() == [4, 0, 1, 9, 5, 6]
    assert Topology((4, 5), (2, 3), anchor="corner").neighbours()[0].tolist() == [0, 1, 2, 5, 6, 7]
    assert Topology((4, 5), (2, 3), anchor="corner").neighbours()[19].tolist() == [19, 15, 16, 4, 0, 1]


# ---------------------------------------------------------------- spatial bottleneck


@pytest.mark.parametrize("h, w", [(1, 1), (1, 2), (2, 2), (3, 2), (4, 7), (6, 6)])
@pytest.mark.parametrize("k, padding", [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
def test_spatial_bottleneck_takes_any_map(k: int, padding: int, h: int, w: int) -> None:
    args = {"kernel_size": k, "padding": padding}
    conv, x = make("spatial_bottleneck", 2, 2, args), image(2, h, w)
    expected = reference.on_batch(lambda maps: reference.spatial_bottleneck(conv, maps, **args), x)
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("h, w", [(1, 1), (4, 7), (6, 6)])
@pytest.mark.parametrize("k, padding", [(1, 0), (2, 0), (2, 1), (3, 2)])
def test_spatial_bottleneck_by_cells_is_that_by_convolutions(
    k: int, padding: int, h: int, w: int, order: torch.memory_format
) -> None:
    """CUDA takes sums over cells; their values, gradients and order of memory are the same."""
    conv = SpatialBottleneckConv2d(5, 3, k, padding=padding).double()
    inputs = [torch.randn(2, 5, h, w).double().contiguous(memory_format=order).requires_grad_(), *conv.parameters()]
    y, expected = spatial_bottleneck_by_cells(*inputs, k, padding), conv(inputs[0])
    dy = torch.randn_like(expected)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(torch.autograd.grad(y, inputs, dy), torch.autograd.grad(expected, inputs, dy))
    assert y.is_contiguous(memory_format=order)


def test_spatial_bottleneck_by_cells_computes_in_autocasts_type() -> None:
    conv, x = SpatialBottleneckConv2d(5, 3, 2, padding=1), torch.randn(2, 5, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y = spatial_bottleneck_by_cells(x, *conv.parameters(), 2, 1)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), conv(x), rtol=0.02, atol=0.02)


def reach(paddings: list[int], at: int) -> list[int]:
    """Rows that row `at` of a single channel reaches through bottlenecks of 2 x 2 whose weights are all 1."""
    x = torch.zeros(1, 1, 8, 8)
    x[..., at, at] = 1
    for padding in paddings:
        conv = SpatialBottleneckConv2d(1, 1, 2, padding=padding)
        for weight in conv.parameters():
            nn.init.ones_(weight)
        x = conv(x)
    return x[0, 0].sum(1).nonzero().flatten().tolist()


def test_grids_of_padding_0_and_1_interlock() -> None:
    assert reach([0], 3) == [2, 3] and reach([1], 3) == [3, 4]
    assert reach([0, 0, 0, 0], 3) == [2, 3], "one grid alone never leaves its cells"
    assert reach([0, 1], 3) == [1, 2, 3, 4] and reach([0, 1, 0, 1], 3) == [0, 1, 2, 3, 4, 5, 6]
    assert reach([1], 0) == [0], "the first cell of the shifted grid has one row in the map"


# ---------------------------------------------------------------- resized topologies


PAPER_TOPOLOGIES = [
    Topology(**block.args["topology"])
    for model in ("f", "g")
    for stage in model_config(model).stages.values()
    for block in stage.blocks
]


@pytest.mark.parametrize("topology", PAPER_TOPOLOGIES, ids=str)
@pytest.mark.parametrize("width", [2, 1.5, 1, 0.75, 0.5, 0.375, 0.25, 0.125, 0.0625])
def test_resized_topology_is_valid_and_keeps_its_share(topology: Topology, width: float) -> None:
    channels = round(topology.channels * width)
    small = topology.resized(channels)
    assert small.channels == channels and len(small.dims) == len(topology.dims)
    assert all(1 <= c <= d for c, d in zip(small.connections, small.dims, strict=True))
    assert small.fan / channels == pytest.approx(topology.fan / topology.channels, rel=0.25)


@pytest.mark.parametrize("topology", [t for t in PAPER_TOPOLOGIES if len(t.dims) == 2], ids=str)
@pytest.mark.parametrize("width", [1 / 2, 1 / 4, 1 / 8])
def test_resized_2d_topologies_keep_their_share_exactly(topology: Topology, width: float) -> None:
    assert topology.resized(round(topology.channels * width)).fan * 4 == topology.channels * width


def test_resized_keeps_the_share_then_halves_the_larger_dimension() -> None:
    assert Topology((8, 16), (4, 8)).resized(64) == Topology((8, 8), (4, 4))
    assert Topology((16, 32), (8, 16)).resized(128) == Topology((8, 16), (4, 8))
    assert Topology((4, 8, 4), (2, 5, 3), "corner").resized(64) == Topology((2, 8, 4), (1, 5, 3), "corner")
    assert Topology((8, 8, 8), (4, 5, 6)).resized(512) == Topology((8, 8, 8), (4, 5, 6))


@pytest.mark.parametrize("channels", [7, 13, 101])
@pytest.mark.parametrize("topology", PAPER_TOPOLOGIES, ids=str)
def test_resized_refuses_channels_that_do_not_divide(topology: Topology, channels: int) -> None:
    with pytest.raises(UserError) as error:
        topology.resized(channels)
    share = f"{topology.fan}/{topology.channels}"
    assert_says(error, f"{topology} does not fit {channels} channels", share, "power of two")


# ---------------------------------------------------------------- refusals


def assert_says(error: pytest.ExceptionInfo[UserError], *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


REFUSALS = {
    "prod d != n": (
        lambda: build_layer("topological", 12, 12, kernel_size=3, topology=Topology((3, 5), (2, 2))),
        ["dims=[3, 5]", "15 channels", "12 -> 12", "choose dims whose product"],
    ),
    "prod d != m": (
        lambda: build_layer("topological", 12, 24, kernel_size=3, topology=PLANE),
        ["dims=[3, 4]", "12 channels", "12 -> 24", "choose dims whose product"],
    ),
    "prod d != n on a projection": (
        lambda: build_layer("sic", 16, 16, kernel_size=3, topology=PLANE),
        ["dims=[3, 4]", "12 channels", "16 -> 16", "choose dims whose product"],
    ),
    "c > d": (lambda: Topology((3, 4), (2, 5)), ["connections=[2, 5]", "5 connections", "of 4", "choose 1 to 4"]),
    "c < 1": (lambda: Topology((3, 4), (0, 2)), ["connections=[0, 2]", "0 connections", "of 3", "choose 1 to 3"]),
    "c for other d": (lambda: Topology((3, 4), (2,)), ["dims=[3, 4]", "connections=[2]", "for each of one or more"]),
    "no dims": (lambda: Topology((), ()), ["dims=[]", "one or more dimensions"]),
    "anchor": (lambda: Topology((3,), (2,), anchor="middle"), ["'middle'", "choose center or corner"]),
    "bases": (lambda: UnravelledConv2d(4, 4, 3, bases=0), ["bases=0", "choose a whole number, 1 or more"]),
    "bases that are not whole": (lambda: UnravelledConv2d(4, 4, 3, bases=1.5), ["bases=1.5", "choose a whole number"]),
    "bases of text": (lambda: UnravelledConv2d(4, 4, 3, bases="4"), ["bases='4'", "choose a whole number"]),
    "dims that are not whole": (lambda: Topology((3.0, 4), (2, 2)), ["dims must be whole", "as in Topology(", "(3.0, 4)"]),
    "connections of one number": (lambda: Topology((3, 4), 2), ["connections must be whole", "as in Topology(", "got 2"]),
    "topology of tuples": (
        lambda: SICConv2d(12, 12, 3, topology=((3, 4), (2, 2))),
        ["topology=((3, 4), (2, 2)) is no Topology", "such as Topology("],
    ),
    "no batch norm": (
        lambda: build_layer("sic", 4, 4, kernel_size=3, batch_norm=False),
        ["batch_norm=False", "before or behind", "bare SICConv2d"],
    ),
    "groups of inputs": (
        lambda: build_layer("grouped", 6, 8, kernel_size=3, groups=4),
        ["in_channels=6, groups=4", "choose a divisor"],
    ),
    "groups of outputs": (
        lambda: build_layer("grouped", 8, 6, kernel_size=3, groups=4),
        ["out_channels=6, groups=4", "choose a divisor"],
    ),
    "no groups": (lambda: build_layer("grouped", 8, 8, kernel_size=3, groups=0), ["groups=0", "positive integer"]),
    "groups=true": (lambda: build_layer("grouped", 8, 8, kernel_size=3, groups=True), ["groups=True", "positive integer"]),
    "odd channels": (
        lambda: build_layer("channel_bottleneck", 5, 5, kernel_size=3),
        ["5 input channels", "choose an even number"],
    ),
    "padding >= k": (
        lambda: build_layer("spatial_bottleneck", 4, 4, kernel_size=2, padding=2),
        ["kernel_size=(2, 2)", "padding=2", "from 0 to kernel_size - 1"],
    ),
    "padding of no grid": (
        lambda: build_layer("spatial_bottleneck", 4, 4, kernel_size=3, padding="same"),
        ["padding='same'", "shifts the grid", "from 0 to kernel_size - 1"],
    ),
    "stride of cells": (
        lambda: build_layer("spatial_bottleneck", 4, 4, kernel_size=2, stride=2),
        ["stride=(2, 2)", "brings back each pixel", "pool before or after"],
    ),
    "dilation of cells": (
        lambda: build_layer("spatial_bottleneck", 4, 4, kernel_size=2, dilation=2),
        ["dilation=(2, 2)", "gaps", "leave it out"],
    ),
    "even kernel of a pair": (
        lambda: build_layer("channel_bottleneck", 4, 4, kernel_size=4, stride=2, padding=1),
        ["kernel_size=4", "cannot keep the size", "choose an odd one"],
    ),
    "residual over a stride": (
        lambda: build_layer("sic", 4, 4, kernel_size=3, stride=2, residual=True),
        ["residual=true", "keeps height and width", "set it to false"],
    ),
    "unknown argument": (
        lambda: build_layer("sic", 4, 4, kernel_sise=3),
        ["layer 'sic'", "no argument 'kernel_sise'", "did you mean 'kernel_size'?"],
    ),
    "missing argument": (lambda: build_layer("unravelled", 4, 4, kernel_size=3), ["layer 'unravelled'", "needs bases"]),
    "unknown layer": (
        lambda: build_layer("topologic", 4, 4, kernel_size=3),
        ["unknown layer 'topologic'", "did you mean 'topological'?", "unravelled"],
    ),
    "layer in capitals": (lambda: build_layer("SIC", 4, 4, kernel_size=3), ["unknown layer 'SIC': did you mean 'sic'?"]),
    "residual between different channels": (
        lambda: build_layer("standard", 4, 6, kernel_size=3, residual=True),
        ["residual=true", "4 -> 6", "set it to false"],
    ),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_refusal_names_the_values_and_the_cure(fault: str) -> None:
    build, parts = REFUSALS[fault]
    with pytest.raises(UserError) as error:
        build()
    assert_says(error, *parts)


@pytest.mark.parametrize("name", [name for name in LAYERS.names() if name != "spatial_bottleneck"])
@pytest.mark.parametrize("kernel_size", [2, 4, (3, 2)])
def test_kernels_that_cannot_keep_the_map_are_refused(name: str, kernel_size: int) -> None:
    n, m, args = CASES[name][0]
    with pytest.raises(UserError) as error:
        build_layer(name, n, m, **{**args, "kernel_size": kernel_size})
    assert_says(error, f"kernel_size={kernel_size}", "choose an odd one")


OUT_OF_RANGE = {
    "kernel_size=0 is out of range; choose 1 or more": {"kernel_size": 0},
    "kernel_size=-1 is out of range; choose 1 or more": {"kernel_size": -1},
    "kernel_size=(3, 0) is out of range; choose 1 or more": {"kernel_size": (3, 0)},
    "kernel_size=(3, 3, 3) is no int or pair of ints": {"kernel_size": (3, 3, 3)},
    "kernel_size=3.0 is no int or pair of ints": {"kernel_size": 3.0},
    "kernel_size=True is no int or pair of ints": {"kernel_size": True},
    "padding=(1, True) is no int or pair of ints": {"padding": (1, True)},
    "stride=0 is out of range; choose 1 or more": {"stride": 0},
    "dilation=(1, 0) is out of range; choose 1 or more": {"dilation": (1, 0)},
    "dilation=4294967296 is out of range; choose 2147483647 or less": {"dilation": 2**32},
    "padding=-1 is out of range; choose 0 or more": {"padding": -1},
    "Invalid padding string 'full', should be one of same, valid, or an int or pair of ints": {"padding": "full"},
    "padding_mode must be one of zeros, reflect, replicate, circular, but got padding_mode='x'": {"padding_mode": "x"},
}


@pytest.mark.parametrize("message", OUT_OF_RANGE)
@pytest.mark.parametrize("name", LAYERS.names())
def test_sizes_out_of_range_are_a_value_error_as_torchs_are(name: str, message: str) -> None:
    n, m, args = NEEDS[name]
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        LAYERS.get(name)(n, m, **{"kernel_size": 3, **args, **OUT_OF_RANGE[message]})


@pytest.mark.parametrize("name", LAYERS.names())
def test_layers_without_channels_are_refused(name: str) -> None:
    n, m, args = NEEDS[name]
    for channels in ((0, m), (n, 0), (-n, m), (n, 2.5), (True, m)):
        with pytest.raises(ValueError):
            LAYERS.get(name)(*channels, kernel_size=3, **args)


def test_a_topology_takes_the_lists_of_a_hydra_configuration() -> None:
    config = OmegaConf.create({"dims": [3, 4], "connections": [2, 2]})
    assert Topology(**config) == Topology((3, 4), (2, 2))


def test_registry_refuses_a_name_twice() -> None:
    registry: Registry = Registry("thing")
    registry.register("one")(int)
    with pytest.raises(ValueError, match="thing 'one' is registered twice"):
        registry.register("one")(str)
    assert registry.names() == ["one"] and registry.get("one") is int
