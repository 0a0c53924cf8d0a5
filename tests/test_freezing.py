"""Frozen networks give the results of the networks that they were made of, and refuse what they cannot do."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from test_native import LAYERS, channels_of, make_layer
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

import efficientconv as ec
from efficientconv.errors import UserError
from efficientconv.freezing import FrozenLayer, FrozenLinear, PackedLayer
from efficientconv.layers import ConvLayer, build_layer
from efficientconv.layers.backend import set_backend
from efficientconv.native import build

needs_kernels = pytest.mark.skipif(not build.available(), reason="no C++ compiler")


def trained(network: nn.Module) -> nn.Module:
    """With batch norms as after training: those of a new network change nothing."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def standard(**args: object) -> ConvLayer:
    return trained(build_layer("standard", 8, 8, **{"kernel_size": 3} | args))


def kinds(network: nn.Module) -> list[type]:
    return [type(m) for m in network.modules() if isinstance(m, (FrozenLayer, PackedLayer, ConvLayer))]


@torch.inference_mode()
def assert_same(frozen: nn.Module, network: nn.Module, x: Tensor, tolerance: float = 1e-5) -> None:
    reference = set_backend(copy.deepcopy(network).double(), "reference")(x.double())
    allowed = tolerance * float(reference.abs().max())
    for images in (x, x.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(frozen(images).double(), reference, rtol=1e-4, atol=allowed)


@needs_kernels
@pytest.mark.parametrize("layout", ["cifar", "imagenet"])
@pytest.mark.parametrize("model", [*"abcdefghijklmno"])
def test_a_frozen_model_equals_the_float64_reference(model: str, layout: str):
    network = trained(ec.create_model(model, num_classes=7, layout=layout, width=0.125, image_size=64))
    frozen = ec.freeze(network)
    assert kinds(frozen).count(ConvLayer) == 1  # the first layer, which has a kernel of its own
    for side in (64, 75):
        assert_same(frozen, network, torch.randn(3, 3, side, side), 1e-3)  # O has 164 layers


@needs_kernels
def test_fully_connected_layers_are_frozen_unless_they_have_hooks():
    network = trained(ec.create_model("c", num_classes=7, layout="cifar", width=0.125))
    network.head.classifier.register_forward_hook(lambda module, inputs, y: y + 1)
    frozen = ec.freeze(network)
    assert type(frozen.head.hidden) is FrozenLinear and type(frozen.head.classifier) is nn.Linear
    for images in (1, 2, 20):
        x = torch.randn(images, 3, 32, 32)
        torch.testing.assert_close(frozen(x), network(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        frozen.head.hidden(torch.zeros(1, 9))


@needs_kernels
@pytest.mark.parametrize("name", LAYERS)
def test_a_frozen_layer_equals_the_float64_reference(name: str):
    layer = make_layer(name).eval()
    frozen = ec.freeze(layer)
    assert type(frozen) is not ConvLayer
    for images, height, width in ((1, 9, 7), (3, 6, 6), (2, 1, 5)):
        x = torch.randn(images, channels_of(name), height, width)
        assert_same(frozen, layer, x)
        for copied in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
            assert torch.equal(copied(x), frozen(x))


@needs_kernels
@pytest.mark.parametrize("name", LAYERS)
def test_maps_with_other_channels_are_refused_in_torch_s_words(name: str):
    with pytest.raises((RuntimeError, ValueError), match="channels|B x "):
        ec.freeze(make_layer(name).eval())(torch.zeros(1, channels_of(name) + 1, 6, 6))


@needs_kernels
@pytest.mark.parametrize("name", ["sic", "topology_2d", "bottleneck_padded", "channel_bottleneck"])
def test_a_frozen_layer_can_be_compiled(name: str):
    frozen, x = ec.freeze(make_layer(name).eval()), torch.randn(2, channels_of(name), 6, 6)
    torch.compiler.reset()
    with torch.no_grad():
        assert torch.equal(torch.compile(frozen, fullgraph=True, backend="aot_eager")(x), frozen(x))


@pytest.mark.parametrize("args", [{"stride": 2}, {"padding": 0}, {"dilation": 2}, {"bias": True}, {"kernel_size": (3, 5)}])
def test_every_geometry_of_a_standard_layer_is_packed(args: dict):
    layer = standard(**args)
    frozen = ec.freeze(layer)
    assert type(frozen) is PackedLayer
    assert_same(frozen, layer, torch.randn(2, 8, 13, 12))


def test_the_copy_does_not_follow_the_original_and_can_be_copied_and_saved():
    layer, x = standard(), torch.randn(1, 8, 6, 6)
    before = layer(x)
    frozen = ec.freeze(layer)
    with torch.no_grad():
        layer.conv.weight.data.zero_()
    for same in (frozen, copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
        torch.testing.assert_close(same(x), before, rtol=1e-4, atol=1e-5)
    assert layer.conv.weight.requires_grad


def hooked(layer: ConvLayer) -> ConvLayer:
    layer.conv.register_forward_hook(lambda module, inputs, y: y + 1)
    return layer


def hooked_outside(layer: ConvLayer) -> ConvLayer:
    layer.register_forward_hook(lambda module, inputs, y: y + 1)
    return layer


def pruned(layer: ConvLayer) -> ConvLayer:
    with torch.no_grad():  # torch cannot copy a weight with a gradient's history
        prune.l1_unstructured(layer.conv, "weight", 0.5)
    return layer


def normed(layer: ConvLayer) -> ConvLayer:
    weight_norm(layer.conv)
    return layer


def reflected(layer: ConvLayer) -> ConvLayer:
    layer.conv.padding_mode = "reflect"
    layer.conv._reversed_padding_repeated_twice = [1, 1, 1, 1]
    return layer


def behind(layer: ConvLayer) -> ConvLayer:
    return trained(build_layer("standard", 8, 8, kernel_size=3, batch_norm="behind"))


def with_batch_statistics(layer: ConvLayer) -> ConvLayer:
    layer.bn = nn.BatchNorm2d(8, track_running_stats=False).eval()
    return layer


def by_reference(layer: ConvLayer) -> ConvLayer:
    return set_backend(layer, "reference")


CASES = [hooked, hooked_outside, pruned, normed, reflected, behind, with_batch_statistics, by_reference]


@pytest.mark.parametrize("change", CASES)
def test_what_cannot_be_frozen_stays_as_it_is(change):
    layer = change(standard())
    kept = ec.freeze(nn.Sequential(layer).eval())[0]
    x = torch.randn(2, 8, 7, 7)
    assert type(kept) is ConvLayer
    torch.testing.assert_close(kept(x), layer(x))


def test_gradients_are_right_or_refused():
    x = torch.randn(1, 8, 6, 6, requires_grad=True)
    with pytest.raises(ValueError, match="without gradients"):
        ec.freeze(standard())(x)
    if build.available():
        layer = trained(build_layer("sic", 8, 8, kernel_size=3))
        frozen, reference = ec.freeze(layer), set_backend(layer, "reference")
        ours, theirs = (torch.autograd.grad(f(x).sum(), x)[0] for f in (frozen, reference))
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("x", [torch.randn(1, 9, 6, 6), torch.randn(8, 6, 6), torch.randn(1, 8, 6, 6).double()])
def test_other_maps_are_refused_in_one_line(x: Tensor):
    with pytest.raises(ValueError, match="float32 maps B x 8 x H x W"):
        ec.freeze(standard())(x)


def test_what_is_no_network_for_inference_on_a_cpu_is_refused():
    refused = {"model.eval": standard().train(), "float64": standard().double(), "meta": standard().to("meta")}
    for why, network in refused.items():
        with pytest.raises(UserError, match=why):
            ec.freeze(network)
    with pytest.raises(UserError, match="the network that it was made of"):
        ec.prepare_for_export(ec.freeze(standard()))


@needs_kernels
@pytest.mark.parametrize("model", ["a", "c", "k"])
def test_a_frozen_network_computes_in_float32_under_autocast(model: str):
    network = trained(ec.create_model(model, num_classes=7, layout="cifar", width=0.125))
    frozen, images, seen = ec.freeze(network), torch.randn(2, 3, 32, 32), []
    frozen.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    layer, calls = frozen.stages.stage3.layers[0], []
    layer.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        frozen(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            frozen(images)
    assert seen[0].dtype == torch.float32 and torch.equal(*seen) and len(calls) == 2
