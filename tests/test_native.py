"""The native kernels against the float64 reference, and everything that decides whether they run."""

from __future__ import annotations

import copy
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from efficientconv.errors import UserError
from efficientconv.layers import ConvLayer, SICConv2d, Topology, build_layer
from efficientconv.layers import backend as choice
from efficientconv.layers.backend import runs_kernels, runs_operator, set_backend
from efficientconv.layers.operators import ops
from efficientconv.models import create_model
from efficientconv.models.entry import stem_and_pool
from efficientconv.native import build

ROOT = Path(__file__).parents[1]
TOLERANCE = 1e-4  # relative, against float64

needs_kernels = pytest.mark.skipif(not build.available(), reason="no C++ compiler")

LAYERS = {
    "standard": ("standard", 32, dict(kernel_size=3)),
    "standard_odd": ("standard", 13, dict(kernel_size=3)),
    "standard_1x1_alone": ("standard", 48, dict(kernel_size=1, residual=False)),
    "grouped": ("grouped", 16, dict(kernel_size=3, groups=4)),
    "topology_1d": ("topological", 30, dict(kernel_size=3, topology=Topology((30,), (7,)))),
    "topology_2d": ("topological", 24, dict(kernel_size=3, topology=Topology((4, 6), (2, 5)))),
    "topology_2d_corner": ("topological", 24, dict(kernel_size=3, topology=Topology((4, 6), (3, 6), "corner"))),
    "topology_3d": ("topological", 36, dict(kernel_size=5, topology=Topology((3, 3, 4), (2, 2, 3)))),
    "topology_1x1": ("topological", 22, dict(kernel_size=1, topology=Topology((2, 11), (1, 4), "corner"))),
    "topology_one_channel": ("topological", 1, dict(kernel_size=3, topology=Topology((1,), (1,)))),
    "topology_model_f": ("topological", 128, dict(kernel_size=3, topology=Topology((8, 16), (4, 8)))),
    "topology_model_g": ("topological", 128, dict(kernel_size=3, topology=Topology((4, 8, 4), (2, 5, 3)))),
    "sic": ("sic", 17, dict(kernel_size=3)),
    "sic_5x5": ("sic", 40, dict(kernel_size=5)),
    "sic_topology": ("sic", 24, dict(kernel_size=3, topology=Topology((4, 6), (2, 5)))),
    "unravelled": ("unravelled", 12, dict(kernel_size=3, bases=4)),
    "channel_bottleneck": ("channel_bottleneck", 16, dict(kernel_size=3)),
    "bottleneck": ("spatial_bottleneck", 16, dict(kernel_size=2)),
    "bottleneck_padded": ("spatial_bottleneck", 13, dict(kernel_size=2, padding=1)),
    "bottleneck_3x3": ("spatial_bottleneck", 5, dict(kernel_size=3, padding=2)),
    "bottleneck_alone": ("spatial_bottleneck", 6, dict(kernel_size=2, residual=False)),
    "sic_alone": ("sic", 20, dict(kernel_size=3, residual=False)),
}
POOLS = [(2, 2, 0), (3, 3, 0), (4, 4, 0), (3, 2, 1), (2, 1, 0), (3, 2, 0), (4, 3, 2)]  # kernel, stride, padding
SHAPES = [(3, 9, 7), (1, 1, 1), (2, 1, 5), (2, 7, 1), (1, 12, 12), (5, 6, 6), (2, 19, 18)]  # images, height, width


def make_layer(name: str, seed: int = 0) -> nn.Module:
    layer, channels, args = LAYERS[name]
    torch.manual_seed(seed)
    made = build_layer(layer, channels, channels, **args)
    with torch.no_grad():
        made.bn.weight.uniform_(0.5, 1.5)
        made.bn.bias.normal_()
        made.bn.running_mean.normal_()
        made.bn.running_var.uniform_(0.5, 2)
    return made


def difference(ours: Tensor, reference: Tensor) -> float:
    """Relative to the reference's norm; gradients that are zero in exact arithmetic count by their size."""
    return float((ours.detach().double() - reference).norm() / reference.norm().clamp(min=1e-2))


def channels_of(name: str) -> int:
    return LAYERS[name][1]


@needs_kernels
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_and_its_gradients_equal_the_float64_reference(name: str, order: torch.memory_format, training: bool):
    for images, height, width in [*SHAPES, (4, 23, 17)]:
        if training and images * height * width == 1:
            continue  # batch norm refuses it
        layer = make_layer(name).train(training)
        reference = set_backend(copy.deepcopy(layer).double(), "reference")
        x = torch.randn(images, channels_of(name), height, width).contiguous(memory_format=order)
        x64 = x.double().requires_grad_()
        x.requires_grad_()
        assert runs_kernels(layer, x) and not runs_kernels(reference, x64)
        y, y64 = layer(x), reference(x64)
        grad = torch.randn_like(y)
        y.backward(grad)
        y64.backward(grad.double())
        pairs = {"y": (y, y64), "x": (x.grad, x64.grad)}
        expected = dict(reference.named_parameters())
        pairs |= {key: (p.grad, expected[key].grad) for key, p in layer.named_parameters()}
        pairs |= {key: (b, dict(reference.named_buffers())[key].double()) for key, b in layer.named_buffers()}
        errors = {key: difference(ours, theirs.detach()) for key, (ours, theirs) in pairs.items()}
        assert max(errors.values()) < TOLERANCE, (images, height, width, errors)


@needs_kernels
@pytest.mark.parametrize("name", LAYERS)
def test_inference_equals_the_reference_whatever_the_memory_format(name: str):
    layer = make_layer(name).eval()
    reference = set_backend(copy.deepcopy(layer).double(), "reference")
    for images, height, width in SHAPES:
        wide = torch.randn(images, channels_of(name), height, 2 * width + 1)
        inputs = [wide[..., :width].contiguous(), wide[..., ::2][..., :width], wide.transpose(0, 1)[:, :, :, :width]]
        inputs[2] = inputs[2].transpose(0, 1)
        inputs.append(inputs[0].to(memory_format=torch.channels_last))
        for x in inputs:
            with torch.inference_mode():
                assert difference(layer(x), reference(x.double())) < TOLERANCE


@needs_kernels
@pytest.mark.parametrize("inputs, outputs", [(1, 1), (7, 5), (16, 8), (33, 30), (80, 61)])
def test_projections_of_few_pixels_equal_float64(inputs: int, outputs: int):
    """Fewer than a vector has lanes: another loop computes them. One pixel more, and the usual loop does."""
    weight = torch.randn(outputs, inputs, 1, 1)
    for images, height, width in [*((n, 1, 1) for n in range(1, 18)), (1, 2, 2), (3, 1, 3), (1, 3, 5), (2, 2, 4)]:
        x = torch.randn(images, inputs, height, width)
        y = ops.topological(x, weight, 0, (), (), "center")
        assert difference(y, F.conv2d(x.double(), weight.double())) < TOLERANCE


@needs_kernels
def test_random_topologies():
    generator = torch.Generator().manual_seed(0)

    def number(most: int) -> int:
        return int(torch.randint(1, most + 1, (), generator=generator))

    for _ in range(25):
        dims = tuple(number(6) for _ in range(number(3)))
        topology = Topology(dims, tuple(number(d) for d in dims), ("center", "corner")[number(2) - 1])
        conv = build_layer("topological", topology.channels, topology.channels, kernel_size=3, topology=topology).conv
        x = torch.randn(number(3), topology.channels, number(9), number(9), requires_grad=True)
        y = conv(x)
        expected = F.conv2d(x.detach().double(), conv.dense_weight().detach().double(), padding=1)
        assert difference(y.detach(), expected) < TOLERANCE, topology
        (ours,) = torch.autograd.grad(y.square().sum(), x)
        x64 = x.detach().double().requires_grad_()
        y64 = F.conv2d(x64, conv.dense_weight().detach().double(), padding=1)
        (theirs,) = torch.autograd.grad(y64.square().sum(), x64)
        assert difference(ours, theirs) < TOLERANCE, topology


@needs_kernels
@pytest.mark.parametrize("name", ["topology_model_f", "sic", "sic_topology", "bottleneck_padded"])
def test_threads_change_nothing_but_rounding(name: str):
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 4):  # 4: images that cannot be shared out evenly
            torch.set_num_threads(count)
            layer = make_layer(name).train()
            x = torch.randn(6, channels_of(name), 9, 7, generator=torch.Generator().manual_seed(1), requires_grad=True)
            y = layer(x)
            y.square().sum().backward()
            results.append([y.detach(), x.grad, *(p.grad for p in layer.parameters())])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for ours, theirs in zip(other, results[0]):
            assert difference(ours, theirs.double()) < 1e-5


@needs_kernels
@pytest.mark.parametrize("name", ["topology_2d", "topology_model_g", "sic_topology"])
def test_gradients_of_many_pixels_are_right_with_any_number_of_threads(name: str):
    """The threads share the pixels of the weight gradient. In the tests above they share its tiles: there are few pixels."""
    layer = make_layer(name).train()
    reference = set_backend(copy.deepcopy(layer).double(), "reference")
    x = torch.randn(5, channels_of(name), 41, 31, generator=torch.Generator().manual_seed(1))
    reference(x.double()).square().sum().backward()
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            layer.zero_grad()
            layer(x).square().sum().backward()
            for ours, theirs in zip(layer.parameters(), reference.parameters()):
                assert difference(ours.grad, theirs.grad) < TOLERANCE
    finally:
        torch.set_num_threads(threads)


@needs_kernels
@pytest.mark.parametrize("model", ["f", "i", "k"])
def test_training_curves_of_both_backends_agree(model: str):
    curves = []
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 4
    for backend in ("native", "reference"):
        torch.manual_seed(0)
        network = set_backend(create_model(model, num_classes=4, layout="cifar", width=0.25), backend).train()
        network.head.dropout.p = 0.0
        optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
        losses = []
        for _ in range(6):
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves.append(torch.tensor(losses))
    assert curves[0][-1] < curves[0][0]
    torch.testing.assert_close(curves[0], curves[1], rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(curves[0][:2], curves[1][:2], rtol=1e-3, atol=1e-3)


@needs_kernels
@pytest.mark.parametrize("model, layers", [("a", 0), ("i", 4)])
def test_1x1_layers_leave_maps_in_the_order_of_the_layers_around_them(model: str, layers: int):
    """Three transitions and the head's; behind a channels-last stem, the standard model's maps stay channels-last."""
    network = create_model(model, num_classes=4, layout="cifar", width=0.25).to(memory_format=torch.channels_last).train()
    images = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        network(images)
    calls = {event.key: event.count for event in profile.key_averages()}
    assert calls.get("efficientconv::topological_layer", 0) == layers


@needs_kernels
@pytest.mark.parametrize("layout", ["imagenet", "cifar"])
@pytest.mark.parametrize("model", ["a", "b", "c", "g", "h", "i", "j", "l", "n"])
def test_whole_models_equal_the_float64_reference_in_both_memory_formats(model: str, layout: str):
    torch.manual_seed(0)
    size = 32 if layout == "cifar" else 224 if model == "n" else 221
    network = create_model(model, num_classes=10, layout=layout, width=0.25).train()
    with torch.no_grad():
        network(torch.randn(2, 3, size, size))  # running statistics of something
    reference = set_backend(copy.deepcopy(network).double().eval(), "reference")
    network.eval()
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = reference(x.double())
        assert difference(network(x), expected) < TOLERANCE
        network.to(memory_format=torch.channels_last)
        assert difference(network(x.to(memory_format=torch.channels_last)), expected) < TOLERANCE


@needs_kernels
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("channels", [1, 2, 6, 14, 16, 20, 37, 48])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_ends_of_layers_with_any_number_of_channels_equal_the_float64_reference(
    order: torch.memory_format, channels: int, residual: bool
):
    for images, height, width in [(2, 2, 4), (1, 16, 18), (16, 9, 11), (32, 20, 20)]:  # whole groups of pixels
        maps = [torch.randn(images, channels, height, width) + 3 for _ in range(2 if residual else 1)]
        grad, ends = torch.randn_like(maps[0]), [torch.rand(channels) + 0.5, torch.randn(channels)]
        found = []
        for dtype in (torch.float32, torch.float64):
            given = [x.contiguous(memory_format=order) for x in maps] + ends
            y, *others = leaves = [x.to(dtype, copy=True).requires_grad_() for x in given]
            running = torch.zeros(channels, dtype=dtype), torch.ones(channels, dtype=dtype)
            added = others.pop(0) if residual else None
            out = ops.norm_relu(y, added, *others, *running, torch.tensor(0), True, 0.1, 1e-5)
            out.backward(grad.to(dtype))
            found.append([out, *running, *(x.grad for x in leaves)])
            assert ("NormLayer" in out.grad_fn.name()) == (dtype is torch.float32)
        for ours, theirs in zip(*found, strict=True):
            assert difference(ours, theirs.detach()) < TOLERANCE


@needs_kernels
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("pool", [*POOLS, (2, 3, 1)], ids=str)
def test_max_pool_and_its_gradient_are_torch_s_to_the_bit(pool: tuple[int, int, int], order: torch.memory_format):
    for shape in ((2, 3, 11, 43), (3, 16, 8, 8), (1, 37, 6, 9)):
        x = torch.randint(-2, 3, shape) / 2  # of equals, the first gets the gradient
        x[0, 0, 0, 1] = x[-1, 0, :2, :2] = float("nan")
        x[-1, :, 3] = -float("inf")
        ours, theirs = (x.clone(memory_format=order).requires_grad_() for _ in range(2))
        found, expected = torch.ops.efficientconv.max_pool(ours, pool), F.max_pool2d(theirs, *pool)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True, check_stride=True)
        grad = torch.randn(found.shape)
        grad[0, 1] = float("nan")
        found.backward(grad)
        expected.backward(grad)
        assert ours.grad.stride() == theirs.grad.stride()
        assert torch.equal(*(x.grad.contiguous().view(torch.int32) for x in (ours, theirs)))


@needs_kernels
@pytest.mark.parametrize("pool", [(1, 1, 0), *POOLS], ids=str)
@pytest.mark.parametrize("kernel, stride, padding", [(3, 1, 1), (7, 2, 0), (7, 2, 3), (4, 3, 2)])
def test_stem_equals_the_float64_reference(kernel: int, stride: int, padding: int, pool: tuple[int, int, int]):
    stem = ConvLayer(nn.Conv2d(3, 10, kernel, stride, padding, bias=False), 3, 10, residual=False).eval()
    nn.init.normal_(stem.bn.running_mean)
    nn.init.uniform_(stem.bn.running_var, 0.5, 2)
    max_pool = nn.MaxPool2d(*pool)
    reference = set_backend(copy.deepcopy(stem), "reference").double()
    for height, width in ((24, 24), (37, 125), (150, 61)):
        x = torch.randn(2, 3, height, width)
        with torch.no_grad():
            found, expected = stem_and_pool(stem, max_pool, x), max_pool(reference(x.double()))
        assert found.shape == expected.shape and difference(found, expected) < TOLERANCE


@needs_kernels
@pytest.mark.parametrize("name", ["standard", "sic", "bottleneck"])
def test_frozen_statistics_stay_and_are_used(name: str):
    layer = make_layer(name).train()
    layer.bn.eval()
    reference = set_backend(copy.deepcopy(layer).double(), "reference")
    before = layer.bn.running_mean.clone()
    x = torch.randn(2, channels_of(name), 9, 7)
    assert difference(layer(x), reference(x.double()).detach()) < TOLERANCE
    assert torch.equal(layer.bn.running_mean, before)


@needs_kernels
def test_running_statistics_with_cumulative_average():
    layer = make_layer("sic").train()
    layer.bn.momentum = None
    reference = set_backend(copy.deepcopy(layer), "reference")
    for seed in range(3):
        x = torch.randn(2, 17, 6, 6, generator=torch.Generator().manual_seed(seed))
        assert runs_kernels(layer.conv, x)
        torch.testing.assert_close(layer(x), reference(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.bn.running_var, reference.bn.running_var)
    assert layer.bn.num_batches_tracked == reference.bn.num_batches_tracked == 3


@needs_kernels
def test_autograd_sees_that_running_statistics_were_written():
    layer = make_layer("sic").eval()
    y = layer(torch.randn(2, 17, 6, 6)).sum()  # its backward pass wants the statistics as they are
    layer.train()(torch.randn(2, 17, 6, 6))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@needs_kernels
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "name", ["standard", "sic", "sic_topology", "topology_2d", "bottleneck", "sic_alone", "channel_bottleneck"]
)
def test_gradients_of_gradients_equal_the_float64_reference(
    name: str, order: torch.memory_format, alone: bool, training: bool
):
    layer = make_layer(name).train(training)
    reference = set_backend(copy.deepcopy(layer).double(), "reference")
    x = torch.randn(2, channels_of(name), 8, 8).contiguous(memory_format=order).requires_grad_()
    found = []
    for module, maps in ((layer, x), (reference, x.detach().double().requires_grad_())):
        module = module.conv if alone else module
        (grad,) = torch.autograd.grad(module(maps).square().sum(), maps, create_graph=True)
        grad.square().sum().backward()
        found.append([grad, maps.grad, *(p.grad for p in module.parameters() if p.grad is not None)])
    for ours, theirs in zip(*found, strict=True):
        assert difference(ours, theirs.detach()) < TOLERANCE


@needs_kernels
@pytest.mark.parametrize("name", ["standard", "sic", "sic_topology", "bottleneck"])
def test_layers_in_training_are_ordinary_autograd_functions(name: str):
    """Checkpointing gets the same gradients; a graph is kept on demand only; weights that were written are missed."""
    layer = make_layer(name).train()
    x = torch.randn(2, channels_of(name), 8, 8, requires_grad=True)
    y = layer(x).square().sum()
    (expected,) = torch.autograd.grad(y, x, retain_graph=True)
    assert torch.equal(torch.autograd.grad(y, x)[0], expected)
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()
    again = checkpoint(layer, x, use_reentrant=False).square().sum()
    assert torch.equal(torch.autograd.grad(again, x)[0], expected)
    y = layer(x).sum()
    with torch.no_grad():
        layer.bn.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@needs_kernels
def test_only_what_requires_a_gradient_gets_one():
    layer = make_layer("sic").train()
    layer.conv.depthwise.weight.requires_grad_(False)
    layer(torch.randn(2, 17, 5, 5)).sum().backward()
    assert layer.conv.depthwise.weight.grad is None and layer.conv.projection.weight.grad is not None


def outcome(call: Callable, *args: object) -> object:
    """What it returns, or what it raises and says."""
    try:
        return call(*args)
    except Exception as error:
        return type(error), str(error)


def assert_alike(ours: object, theirs: object) -> None:
    if isinstance(theirs, Tensor):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    else:
        assert ours == theirs


def _replace(module: str, name: str, *shape: int) -> Callable[[nn.Module], None]:
    """Another parameter or buffer in the place of one of a layer's, of another shape."""

    def put(layer: nn.Module) -> None:
        value = torch.ones(shape)
        setattr(layer.get_submodule(module), name, nn.Parameter(value) if name == "weight" else value)

    return put


REPLACED = {
    "sic: filters of fewer channels": ("sic", _replace("conv.depthwise", "weight", 16, 1, 3, 3)),
    "sic: larger filters": ("sic", _replace("conv.depthwise", "weight", 17, 1, 5, 5)),
    "sic: twice the filters": ("sic", _replace("conv.depthwise", "weight", 34, 1, 3, 3)),
    "sic: projection of fewer inputs": ("sic", _replace("conv.projection", "weight", 17, 8, 1, 1)),
    "sic: projection of fewer outputs": ("sic", _replace("conv.projection", "weight", 16, 17, 1, 1)),
    "sic: projection of one element": ("sic", _replace("conv.projection", "weight", 1, 1, 1, 1)),
    "sic_topology: projection": ("sic_topology", _replace("conv.projection", "weight", 24, 4, 1, 1)),
    "unravelled: fewer bases": ("unravelled", _replace("conv.depthwise", "weight", 36, 1, 3, 3)),
    "topology: fewer outputs": ("topology_2d", _replace("conv", "weight", 20, 10, 3, 3)),
    "topology: smaller kernels": ("topology_2d", _replace("conv", "weight", 24, 10, 1, 1)),
    "standard 1 x 1": ("standard_1x1_alone", _replace("conv", "weight", 48, 24, 1, 1)),
    "bottleneck: larger reduction": ("bottleneck", _replace("conv.reduction", "weight", 16, 1, 3, 3)),
    "bottleneck: smaller projection": ("bottleneck", _replace("conv.projection", "weight", 16, 4, 1, 1)),
    "bottleneck: fewer expansions": ("bottleneck", _replace("conv.expansion", "weight", 4, 1, 2, 2)),
    "pair: first projection": ("channel_bottleneck", _replace("conv.reduction.conv.projection", "weight", 4, 16, 1, 1)),
    "pair: first batch norm": ("channel_bottleneck", _replace("conv.reduction.bn", "running_mean", 4)),
    "pair: second filters": ("channel_bottleneck", _replace("conv.expansion.depthwise", "weight", 4, 1, 3, 3)),
    "batch norm: mean": ("sic", _replace("bn", "running_mean", 4)),
    "batch norm: variance": ("bottleneck", _replace("bn", "running_var", 32)),
    "batch norm: weight": ("topology_2d", _replace("bn", "weight", 25)),
    "batch norm: weight of a grouped layer": ("grouped", _replace("bn", "weight", 1)),
    "batch norm: in double": ("sic", lambda layer: layer.bn._buffers.update(running_mean=torch.zeros(17).double())),
    "batch norm: no mean": ("sic", lambda layer: layer.bn._buffers.update(running_mean=None)),
    "batch norm: batches not counted": ("sic", lambda layer: layer.bn._buffers.update(num_batches_tracked=None)),
    "batch norm: weight not contiguous": ("sic", lambda layer: setattr(layer.bn.weight, "data", torch.ones(34)[::2])),
    "residual connection to other channels": ("sic", lambda layer: setattr(layer, "conv", SICConv2d(17, 34, 3))),
}


@needs_kernels
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_maps_that_do_not_fit_are_refused_in_torch_s_words(name: str, alone: bool, training: bool):
    layer = make_layer(name).train(training)
    reference = set_backend(copy.deepcopy(layer), "reference")
    n = channels_of(name)
    for shape in ((1, 2 * n, 16, 16), (1, n + 1, 16, 16), (1, max(1, n // 2), 64, 64), (2, n, 8), (n,), (1, n, 4, 4, 4)):
        x = torch.randn(shape)
        assert_alike(*(outcome(module.conv if alone else module, x) for module in (layer, reference)))


@needs_kernels
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", REPLACED)
def test_tensors_that_others_replaced_are_refused_or_used_as_torch_does(case: str, training: bool):
    name, replace = REPLACED[case]
    layer = make_layer(name).train(training)
    replace(layer)
    reference = set_backend(copy.deepcopy(layer), "reference")
    x = torch.randn(2, channels_of(name), 8, 8)
    with torch.set_grad_enabled(training):
        assert_alike(outcome(layer, x), outcome(reference, x))


@needs_kernels
@pytest.mark.parametrize(
    "stem, pool, shape",
    [
        ((7, 1, 0), (2, 2, 0), (1, 3, 6, 9)),
        ((3, 0, 1), (2, 2, 0), (1, 3, 8, 8)),
        ((3, 1, -1), (2, 2, 0), (1, 3, 8, 8)),
        ((3, 1, 1), (3, 2, 2), (1, 3, 8, 8)),
        ((3, 1, 1), (9, 2, 0), (1, 3, 8, 8)),
        ((3, 1, 1), (2, 0, 0), (1, 3, 8, 8)),
        ((3, 1, 1), (2, 2, 0), (1, 4, 8, 8)),
        ((3, 1, 1), (2, 2, 0), (8,)),
    ],
    ids=str,
)
def test_first_layers_and_pools_that_torch_refuses_are_refused_in_its_words(stem, pool, shape):
    layer = ConvLayer(nn.Conv2d(3, 10, *stem, bias=False), 3, 10, residual=False).eval()
    pool = nn.MaxPool2d(*pool)
    x = torch.randn(shape)
    with torch.no_grad():
        ours = outcome(stem_and_pool, layer, pool, x)
        assert ours == outcome(nn.Sequential(set_backend(layer, "reference"), pool), x)


class Adapter(nn.Module):
    """A convolution and something beside it; it has the convolution's attributes."""

    def __init__(self, base: nn.Conv2d):
        super().__init__()
        self.base = base
        for key in ("in_channels", "out_channels", "stride", "padding", "dilation", "kernel_size", "padding_mode"):
            setattr(self, key, getattr(base, key))

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    @property
    def bias(self) -> None:
        return None

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.base(x)


BARE = {"bias": False}
CONVOLUTIONS = {  # layer, the part of its convolution, what replaces it
    "filters of 5 x 5": ("sic", "depthwise", lambda: nn.Conv2d(17, 17, 5, padding=2, groups=17, **BARE)),
    "filters over all channels": ("sic", "depthwise", lambda: nn.Conv2d(17, 17, 3, padding=1, **BARE)),
    "projection of 3 x 3": ("sic", "projection", lambda: nn.Conv2d(17, 17, 3, padding=1, **BARE)),
    "projection in groups": ("sic_topology", "projection", lambda: nn.Conv2d(24, 24, 1, groups=4, **BARE)),
    "projection without topology": ("sic_topology", "projection", lambda: nn.Conv2d(24, 24, 1, **BARE)),
    "two projections": ("sic", "projection", lambda: nn.Sequential(nn.Conv2d(17, 4, 1), nn.Conv2d(4, 17, 1))),
    "no filters": ("unravelled", "depthwise", lambda: nn.Conv2d(12, 48, 1, groups=12, **BARE)),
    "reduction with bias": ("bottleneck", "reduction", lambda: nn.Conv2d(16, 16, 2, 2, groups=16)),
    "reduction over all channels": ("bottleneck", "reduction", lambda: nn.Conv2d(16, 16, 2, 2, **BARE)),
    "reduction by less": ("bottleneck", "reduction", lambda: nn.Conv2d(16, 16, 2, groups=16, **BARE)),
    "reduction with gaps": ("bottleneck", "reduction", lambda: nn.Conv2d(16, 16, 2, 2, 1, 2, groups=16, **BARE)),
    "bottleneck's projection with bias": ("bottleneck", "projection", lambda: nn.Conv2d(16, 16, 1)),
    "bottleneck's projection of 3 x 3": ("bottleneck", "projection", lambda: nn.Conv2d(16, 16, 3, padding=1, **BARE)),
    "expansion with bias": ("bottleneck", "expansion", lambda: nn.ConvTranspose2d(16, 16, 2, 2, groups=16)),
    "expansion over all channels": ("bottleneck", "expansion", lambda: nn.ConvTranspose2d(16, 16, 2, 2, **BARE)),
    "no expansion": ("bottleneck", "expansion", lambda: nn.Upsample(scale_factor=2)),
    "the pair's first": ("channel_bottleneck", "reduction", lambda: nn.Conv2d(16, 8, 3, padding=1)),
    "the pair's second": ("channel_bottleneck", "expansion", lambda: nn.Conv2d(8, 16, 3, padding=1)),
}


class Watched(Tensor):
    seen: list = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.seen.append(func)
        return super().__torch_function__(func, types, args, kwargs)


class TestChoice:
    x = torch.randn(1, 17, 5, 5)

    @needs_kernels
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("name", ["sic", "topology_2d", "bottleneck_padded"])
    def test_what_the_kernels_do_not_take_is_the_references_to_the_bit(self, name: str, training: bool):
        layer = make_layer(name).train(training)
        reference = set_backend(copy.deepcopy(layer), "reference")
        x = torch.randn(2, channels_of(name), 7, 8)
        for kind in (torch.float64, torch.bfloat16, "meta"):
            ours, theirs, maps = layer.to(kind), reference.to(kind), x.to(kind).requires_grad_()
            y, expected = ours(maps), theirs(maps)
            assert y.shape == expected.shape and y.dtype == expected.dtype and y.device == expected.device
            if kind != "meta":
                assert torch.equal(y, expected)
                for one, other in zip(*(torch.autograd.grad(m.sum(), maps) for m in (y, expected))):
                    assert torch.equal(one, other)

    @needs_kernels
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("name", LAYERS)
    def test_under_autocast_maps_have_the_references_type(self, name: str, training: bool):
        layer = make_layer(name).train(training)
        reference = set_backend(copy.deepcopy(layer), "reference")
        for size, dtype in ((5, torch.float32), (5, torch.bfloat16), (33, torch.float32), (33, torch.bfloat16)):
            x = torch.randn(2, channels_of(name), size, size).to(dtype)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert layer(x).dtype == reference(x).dtype and layer.conv(x).dtype == torch.bfloat16

    @needs_kernels
    @pytest.mark.parametrize("training", [True, False])
    def test_under_autocast_the_kernels_and_the_maps_between_them_are_in_float32(self, training: bool):
        model = create_model("i", num_classes=10, layout="cifar").train(training)
        model.head.dropout.p = 0.0
        reference, seen = set_backend(copy.deepcopy(model), "reference"), {}
        exact = copy.deepcopy(reference).double()
        for name, module in model.named_modules():
            if isinstance(module, ConvLayer):
                module.register_forward_hook(lambda _, inputs, y, name=name: seen.update({name: (y.dtype, y.stride(1) > 1)}))
        images = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, in_bfloat16 = model(images), reference(images)
        assert seen.pop("head.conv")[0] == y.dtype == torch.bfloat16 and seen.pop("stem")[0] == torch.bfloat16
        assert len(seen) == 27 and set(seen.values()) == {(torch.float32, True)}  # 24 SIC layers and 3 transitions
        expected = exact(images.double())
        assert difference(y, expected.detach()) < 0.02
        if training:
            for logits in (y.float(), in_bfloat16.float(), expected):
                logits.square().sum().backward()
            grads = zip(*(network.parameters() for network in (model, reference, exact)))
            errors = [(difference(ours.grad, best.grad), difference(low.grad, best.grad)) for ours, low, best in grads]
            assert statistics.mean(ours for ours, _ in errors) < statistics.mean(low for _, low in errors)

    @needs_kernels
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
    def test_networks_of_other_types_run_under_autocast(self, dtype: torch.dtype):
        model = create_model("i", num_classes=10, layout="cifar", width=0.25).to(dtype).eval()
        reference, images = set_backend(copy.deepcopy(model).double(), "reference"), torch.randn(2, 3, 32, 32).to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = model(images)
        assert y.dtype == dtype and difference(y, reference(images.double()).detach()) < 0.05

    @needs_kernels
    @pytest.mark.parametrize("own", ["type", "forward", "hook"])
    def test_another_module_in_a_stage_sees_autocast(self, own: str):
        model, seen = create_model("i", num_classes=10, layout="cifar", width=0.25).eval(), []
        layers = model.stages.stage2.layers
        if own == "type":
            layers[1] = nn.Conv2d(32, 32, 1)
        if own == "forward":
            layers[1].conv.forward = nn.Conv2d(32, 32, 1).forward
        where = layers[1] if own == "type" else layers[1].conv.depthwise if own == "hook" else layers[1].bn
        where.register_forward_hook(lambda _, inputs, y: seen.append((torch.is_autocast_enabled("cpu"), y.dtype)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(torch.randn(2, 3, 32, 32))
        assert seen == [(True, torch.bfloat16)]

    @needs_kernels
    def test_under_autocast_a_single_kernel_computes_in_float32(self):
        conv = make_layer("sic_topology").conv
        maps = torch.randn(2, conv.in_channels, 16, 16)
        in_float32 = conv(maps)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(conv(maps), in_float32.bfloat16())

    @needs_kernels
    @pytest.mark.parametrize("fast", [True, False])
    def test_dense_sic_layers_train_in_bfloat16_where_the_processor_is_fast_at_it(self, fast: bool, monkeypatch):
        monkeypatch.setattr(choice, "multiplies_bfloat16", lambda: fast)
        layer, x = make_layer("sic").train(), torch.randn(2, channels_of("sic"), 33, 33).requires_grad_()
        assert runs_operator(layer, x, layer.conv)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert runs_operator(layer, x, layer.conv) is not fast
        with torch.autocast("cpu", dtype=torch.float16):
            assert runs_operator(layer, x, layer.conv)
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            assert runs_operator(layer, x, layer.conv)

    @needs_kernels
    @pytest.mark.parametrize(
        ("name", "tolerance"),
        [
            ("sic_topology", TOLERANCE),
            ("bottleneck_padded", TOLERANCE),
            ("topology_model_f", TOLERANCE),
            ("channel_bottleneck", 0.05),  # the maps between its two layers are rounded
        ],
    )
    def test_layers_train_on_half_precision_maps_under_autocast(self, name: str, tolerance: float):
        layer = set_backend(make_layer(name).train(), "native")
        exact = set_backend(copy.deepcopy(layer).double(), "reference")
        x = torch.randn(2, channels_of(name), 33, 33).bfloat16()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = layer(x)
        expected = exact(x.double())
        y.sum().backward()
        expected.sum().backward()
        assert y.dtype == torch.bfloat16 and difference(y, expected.detach()) < 2**-8  # its rounding
        for ours, theirs in zip(layer.parameters(), exact.parameters()):
            assert ours.grad.dtype == torch.float32 and difference(ours.grad, theirs.grad) < tolerance

    @needs_kernels
    def test_hooks_on_inner_modules_are_called(self):
        layer = make_layer("sic").eval()
        seen = []
        handle = layer.conv.depthwise.register_forward_hook(lambda *_: seen.append(1))
        layer(self.x)
        handle.remove()
        assert seen and runs_kernels(layer, self.x)

    @needs_kernels
    @pytest.mark.parametrize("name", ["sic", "topology_2d", "standard_1x1_alone", "unravelled"])
    @pytest.mark.parametrize(
        "change",
        [
            {"stride": (2, 2)},
            {"dilation": (2, 2)},
            {"padding": (2, 2)},
            {"padding_mode": "circular", "_reversed_padding_repeated_twice": [1, 1, 1, 1], "padding": (1, 1)},
            {"bias": True},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_what_is_written_to_a_convolutions_attributes_is_seen(self, name: str, change: dict):
        """Backbones are dilated, tiled or fused with their batch norm in this way."""
        layer = make_layer(name).eval()
        layer.residual = False
        first = next(module for module in layer.conv.modules() if hasattr(module, "weight"))
        for attribute, value in change.items():
            setattr(first, attribute, nn.Parameter(torch.randn(len(first.weight))) if value is True else value)
        x = torch.randn(1, channels_of(name), 9, 8)
        expected = set_backend(copy.deepcopy(layer), "reference")
        with torch.no_grad():
            torch.testing.assert_close(layer(x), expected(x), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(layer.conv(x), expected.conv(x), rtol=1e-4, atol=1e-4)

    @needs_kernels
    @pytest.mark.parametrize("how", ["subclass", "part", "instance", "adapter", "parametrized", "observer"])
    @pytest.mark.parametrize("name", ["sic", "unravelled", "channel_bottleneck", "standard_1x1_alone"])
    def test_what_replaces_an_inner_convolution_is_run(self, name: str, how: str):
        """As adapters and quantization-aware training do."""
        layer = make_layer(name).eval()
        parent = next(module for module in layer.modules() if any(isinstance(c, nn.Conv2d) for c in module.children()))
        key, inner = next((key, child) for key, child in parent.named_children() if isinstance(child, nn.Conv2d))
        if how == "subclass":
            doubled = {"forward": lambda self, x: 2 * nn.Conv2d.forward(self, x)}
            inner.__class__ = type("Doubled", (type(inner),), doubled)
        elif how == "part":  # as for weight standardization
            doubled = {"_conv_forward": lambda self, *args: 2 * nn.Conv2d._conv_forward(self, *args)}
            inner.__class__ = type("Doubled", (type(inner),), doubled)
        elif how == "instance":
            inner.forward = lambda x: 2 * nn.Conv2d.forward(inner, x)
        elif how == "adapter":
            setattr(parent, key, Adapter(inner))
        elif how == "observer":
            for module in list(layer.modules()):
                module.add_module("activation_post_process", nn.Identity())
        else:
            nn.utils.parametrizations.weight_norm(inner)
            inner.parametrizations.weight.original0.data.mul_(2)
        expected = set_backend(copy.deepcopy(layer), "reference")
        x = torch.randn(1, channels_of(name), 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), expected(x), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(layer.conv(x), expected.conv(x), rtol=1e-4, atol=1e-4)

    @needs_kernels
    @pytest.mark.parametrize("case", CONVOLUTIONS)
    def test_a_part_that_is_another_convolution_is_run(self, case: str):
        name, part, make = CONVOLUTIONS[case]
        layer = make_layer(name).eval()
        setattr(layer.conv, part, make())
        expected = set_backend(copy.deepcopy(layer), "reference")
        x = torch.randn(1, channels_of(name), 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), expected(x), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(layer.conv(x), expected.conv(x), rtol=1e-4, atol=1e-4)

    @needs_kernels
    @pytest.mark.parametrize("name", ["sic", "sic_topology", "bottleneck", "channel_bottleneck"])
    def test_every_part_may_be_inside_another_module(self, name: str):
        """As adapters and wrappers put it."""
        for part, inner in make_layer(name).conv.named_children():
            layer = make_layer(name).eval()
            setattr(layer.conv, part, nn.Sequential(inner))
            expected = set_backend(copy.deepcopy(layer), "reference")
            x = torch.randn(1, channels_of(name), 8, 8)
            with torch.no_grad():
                torch.testing.assert_close(layer(x), expected(x), rtol=1e-4, atol=1e-4)

    @needs_kernels
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("name", ["sic", "channel_bottleneck", "bottleneck", "standard"])
    def test_global_hooks_see_every_module(self, name: str, training: bool):
        layer, seen = make_layer(name).train(training), []
        handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
        try:
            layer(torch.randn(2, channels_of(name), 6, 6))
        finally:
            handle.remove()
        assert len(seen) == len(list(layer.modules()))

    @needs_kernels
    @pytest.mark.parametrize("training", [True, False])
    def test_max_pools_run_where_a_kernel_would_hide_them(self, training: bool):
        """From global hooks, and from a forward of the pool's own."""
        network, seen = create_model("c", num_classes=4, layout="cifar", width=0.125).train(training), []
        pools = [module for module in network.modules() if isinstance(module, nn.MaxPool2d)]
        handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
        try:
            network(torch.randn(2, 3, 32, 32))
        finally:
            handle.remove()
        assert pools and set(pools) <= set(seen)
        for pool in pools:
            pool.forward = lambda x: seen.append("own") or nn.functional.avg_pool2d(x, 2)
        network(torch.randn(2, 3, 32, 32))
        assert seen.count("own") == len(pools)

    @needs_kernels
    @pytest.mark.parametrize("grad", [True, False])
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("name", ["sic", "topology_2d", "bottleneck", "standard", "standard_1x1_alone"])
    def test_tangents_of_forward_mode_are_the_references(self, name: str, training: bool, grad: bool):
        layer = make_layer(name).train(training)
        reference = set_backend(copy.deepcopy(layer), "reference")
        x, along = torch.randn(2, 2, channels_of(name), 6, 6)
        for ours, theirs in ((layer, reference), (layer.conv, reference.conv)):
            with torch.set_grad_enabled(grad), forward_ad.dual_level():
                both = [forward_ad.unpack_dual(f(forward_ad.make_dual(x, along))).tangent for f in (ours, theirs)]
                torch.testing.assert_close(*both, rtol=1e-4, atol=1e-4)

    @needs_kernels
    def test_weights_of_a_class_of_their_own_are_left_to_it(self):
        layer = make_layer("sic").eval()
        layer.conv.projection.weight = nn.Parameter(layer.conv.projection.weight.detach().as_subclass(Watched))
        Watched.seen.clear()
        with torch.no_grad():
            layer(self.x)
        assert F.conv2d in Watched.seen

    @needs_kernels
    def test_operation_counters_see_the_reference(self):
        from torch.utils.flop_counter import FlopCounterMode

        layer = make_layer("sic").eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(self.x)
        assert counter.get_total_flops() == 2 * layer.conv.cost(5, 5).macs

    @needs_kernels
    @pytest.mark.parametrize("inside", ["", "conv", "conv.reduction", "conv.expansion.projection", "bn"])
    def test_a_part_set_to_the_reference_runs_it(self, inside: str):
        layer = make_layer("channel_bottleneck").eval()
        set_backend(layer.get_submodule(inside), "reference")
        x = torch.randn(2, 16, 9, 9)
        with torch.no_grad(), torch.autograd.profiler.profile() as seen:
            layer(x)
        assert inside not in ("", "conv") or not any("efficientconv" in event.name for event in seen.function_events)

    def test_empty_batch(self):
        assert make_layer("sic").eval()(self.x[:0]).shape == (0, 17, 5, 5)

    def test_an_unknown_backend_is_refused(self):
        with pytest.raises(UserError, match="reference"):
            set_backend(make_layer("sic"), "refrence")

    def test_checkpoints_do_not_know_the_backend(self):
        assert set_backend(make_layer("sic"), "reference").state_dict().keys() == make_layer("sic").state_dict().keys()


WITHOUT_KERNELS = """
import sys, warnings, torch
from efficientconv.errors import UserError
from efficientconv.layers import build_layer, Topology
from efficientconv.layers.backend import set_backend
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    layers = [build_layer("topological", 24, 24, kernel_size=3, topology=Topology((4, 6), (2, 3))) for _ in range(2)]
    x = torch.randn(2, 24, 5, 5)
    for layer in layers:
        y = layer(x)
        expected = torch.relu(layer.bn(torch.nn.functional.conv2d(x, layer.conv.dense_weight(), padding=1)) + x)
        torch.testing.assert_close(y, expected)
        y.sum().backward()
texts = [str(w.message) for w in caught if "native layers" in str(w.message)]
assert len(texts) == 1 and sys.argv[1] in texts[0], texts
try:
    set_backend(layers[0], "native")
except UserError as error:
    assert sys.argv[1] in str(error)
else:
    raise AssertionError("native without a compiler")
"""


@pytest.mark.skipif(build.lanes() == 8, reason="what the other tests run is as narrow")
def test_kernels_for_narrower_vectors_equal_the_reference_too():
    """Of the processor's two widths, the one that torch did not choose here."""
    chosen = ["-k", "float64_reference and not whole"]
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, *chosen]
    env = os.environ | {"ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and set(done.stdout.split()[0]) == {"."}, done.stdout  # neither failed nor skipped


def make_compiler(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


JUNK = 'for last; do :; done; echo junk > "$last"'


@pytest.mark.parametrize("script, reason", [("", "compiler"), (JUNK, "file too short")])
def test_without_kernels_there_is_one_warning_and_native_is_refused(tmp_path: Path, script: str, reason: str):
    """There is no compiler, or one that makes no library."""
    env = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    env |= {key: os.environ[key] for key in ("HOME", "LD_LIBRARY_PATH") if key in os.environ}
    if script:
        env["CXX"] = str(make_compiler(tmp_path / "c++", script))
    call = [sys.executable, "-c", WITHOUT_KERNELS, reason]
    done = subprocess.run(call, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@needs_kernels
@pytest.mark.parametrize("name", ["standard", "grouped", "sic", "unravelled", "channel_bottleneck", "bottleneck"])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("training", [True, False])
def test_what_is_not_finite_stays_so(name: str, order: torch.memory_format, value: float, training: bool):
    """In outputs, running statistics and gradients, whichever image it comes in."""
    for image in (0, 2):
        layer = make_layer(name).train(training)
        reference = set_backend(copy.deepcopy(layer), "reference")
        x = torch.randn(3, channels_of(name), 6, 8).contiguous(memory_format=order)
        x[image, 0, 2, 2] = value
        found = []
        for module in (layer, reference):
            module.zero_grad()
            y = module(x)
            y.sum().backward()
            found.append([y, *module.buffers(), *(p.grad for p in module.parameters())])
        for ours, theirs in zip(*found):
            assert torch.equal(ours.isnan(), theirs.isnan())
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3, equal_nan=True)


@needs_kernels
@pytest.mark.parametrize("training", [True, False])
def test_what_is_not_finite_stays_in_what_is_connected_to_it(training: bool):
    """The reference's dense kernel also spreads it to other channels: 0 * nan."""
    layer = make_layer("topology_2d").train(training)
    x = torch.randn(2, 24, 6, 6)
    x[0, 0, 2, 2] = float("nan")
    with torch.no_grad():
        ours, theirs = layer(x), set_backend(copy.deepcopy(layer), "reference")(x)
    assert ours.isnan().any() and (ours.isnan() <= theirs.isnan()).all()
