"""Frozen networks give the results of the networks that they were made of, and refuse what they cannot do."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from test_native import LAYERS, channels_of, make_layer
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm
from torch.utils._python_dispatch import TorchDispatchMode

import efficientconv as ec
from efficientconv.deploy.frozen import Frozen, FrozenLayer, FrozenLinear, PackedLayer
from efficientconv.errors import UserError
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
@pytest.mark.parametrize("threads", [2, 5])
def test_threads_that_stay_together_for_a_network_compute_the_same(threads: int):
    """Also if they are late, because there are more threads than cores, and if several programs' threads call at once."""
    network = trained(ec.create_model("m", num_classes=7, layout="cifar", width=0.25))
    frozen, images = ec.freeze(network), torch.randn(3, 3, 32, 32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for x in (images, images[:1]):
            assert_same(frozen, network, x)
            with torch.inference_mode(), ThreadPoolExecutor(4) as pool:
                first, *others = pool.map(frozen, [x] * 40)
                assert all(torch.equal(first, other) for other in others)
        with pytest.raises(RuntimeError, match="to have 3 channels"), torch.inference_mode():
            frozen(torch.randn(1, 4, 32, 32))
        assert_same(frozen, network, images)
    finally:
        torch.set_num_threads(before)


@needs_kernels
@pytest.mark.parametrize("model", [*"abcdefghijklmno"])
def test_one_call_computes_what_the_modules_compute(model: str):
    network = trained(ec.create_model(model, num_classes=7, layout="cifar", width=0.25))
    frozen, images = ec.freeze(network), torch.randn(3, 3, 32, 32)
    calls: list[int] = []
    frozen.head.register_forward_hook(lambda *_: calls.append(1)).remove()
    for same in (frozen, copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
        in_one_call = same(images)
        handle = same.head.register_forward_hook(lambda *_: calls.append(1))
        assert_close_to(in_one_call, same(images))
        handle.remove()
        assert torch.equal(same(images), in_one_call)
        one = images[:1].contiguous(memory_format=torch.channels_last)
        assert_close_to(same(one), in_one_call[:1])
    assert len(calls) == 3  # only where the hook asks for it, a module runs


def assert_close_to(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def replace_classifier(network: nn.Module) -> None:
    network.head.classifier = nn.Linear(network.head.classifier.weight.shape[1], 5)


def append_layer(network: nn.Module) -> None:
    network.stages["stage4"].layers.append(nn.Tanh())


def replace_forward(network: nn.Module) -> None:
    network.head.forward = lambda x: x.mean((2, 3))


def train_dropout(network: nn.Module) -> None:
    network.head.dropout.p = 1.0
    network.head.dropout.train()


def replace_weight(network: nn.Module) -> None:
    network.stem.conv.weight = nn.Parameter(torch.zeros_like(network.stem.conv.weight), requires_grad=False)


def hook_stage(network: nn.Module) -> None:
    network.stages["stage3"].register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))


CHANGES = [replace_classifier, append_layer, replace_forward, train_dropout, replace_weight, hook_stage]


@needs_kernels
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_frozen_network_s_modules_is_seen(change):
    frozen = ec.freeze(trained(ec.create_model("c", num_classes=7, layout="cifar", width=0.125)))
    images = torch.randn(2, 3, 32, 32)
    before = frozen(images)
    change(frozen)
    x = frozen.stem(images)
    for stage in frozen.stages.values():
        x = stage(x)
    assert_close_to(frozen(images), frozen.head(x))
    assert frozen(images).shape != before.shape or not torch.allclose(frozen(images), before)


class Seen(TorchDispatchMode):
    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.names = getattr(self, "names", []) + [str(operator)]
        return operator(*args, **(kwargs or {}))


@needs_kernels
def test_tracers_see_the_layers_of_a_frozen_network():
    frozen = ec.freeze(trained(ec.create_model("c", num_classes=7, layout="cifar", width=0.125)))
    images, other = torch.randn(2, 2, 3, 32, 32)
    expected = frozen(other)
    with Seen() as seen:
        assert_close_to(frozen(other), expected)
    assert sum("frozen_layer" in name for name in seen.names) > 12
    with torch.no_grad():
        assert_close_to(torch.jit.trace(frozen, images, check_trace=False)(other), expected)
        torch.compiler.reset()
        assert_close_to(torch.compile(frozen, backend="aot_eager")(other), expected)


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


class Standardized(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight - weight.mean(), bias)


def standardized(layer: ConvLayer) -> ConvLayer:
    return trained(ConvLayer(Standardized(8, 8, 3, padding=1), 8, 8))


def hooked(layer: ConvLayer) -> ConvLayer:
    layer.conv.register_forward_hook(lambda module, inputs, y: y + 1)
    return layer


def hooked_outside(layer: ConvLayer) -> ConvLayer:
    layer.register_forward_hook(lambda module, inputs, y: y + 1)
    return layer


def pruned(layer: ConvLayer) -> ConvLayer:
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


CASES = [standardized, hooked, hooked_outside, pruned, normed, reflected, behind, with_batch_statistics, by_reference]


@pytest.mark.parametrize("change", CASES)
def test_what_cannot_be_frozen_stays_as_it_is(change):
    layer = change(standard())
    kept = ec.freeze(nn.Sequential(layer).eval())[0]
    x = torch.randn(2, 8, 7, 7)
    assert type(kept) is ConvLayer and not any(isinstance(module, Frozen) for module in kept.modules())
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


@needs_kernels
@pytest.mark.parametrize("name", [*LAYERS, "standard_3x3"])
def test_nan_and_infinity_pass_as_in_the_layer(name: str):
    layer, channels = (standard(), 8) if name == "standard_3x3" else (make_layer(name).eval(), channels_of(name))
    frozen = ec.freeze(layer)
    for value in (float("nan"), float("inf"), -float("inf")):
        x = torch.randn(1, channels, 6, 6)
        x[0, 0, 2, 3] = value
        with torch.no_grad():
            assert torch.equal(frozen(x).isfinite(), layer(x).isfinite())


@needs_kernels
@pytest.mark.parametrize("name", ["standard", "sic", "channel_bottleneck"])
def test_a_batch_norm_in_training_mode_stays_so(name: str):
    layer = nn.Sequential(make_layer(name)).eval()
    [*layer.modules()][-1].train()  # a batch norm, as for adapting to test images
    assert isinstance([*layer.modules()][-1], nn.BatchNorm2d)
    x = torch.randn(2, channels_of(name), 6, 6)
    torch.testing.assert_close(ec.freeze(layer)(x), copy.deepcopy(layer)(x))


@needs_kernels
@pytest.mark.parametrize("name", ["sic", "topology_2d", "bottleneck_padded", "channel_bottleneck"])
def test_forward_mode_derivatives_and_samples_of_torch_func_are_right_or_refused(name: str):
    layer = make_layer(name).eval().requires_grad_(False)
    frozen, reference = ec.freeze(layer), set_backend(copy.deepcopy(layer), "reference")
    x, v = torch.randn(2, 2, channels_of(name), 6, 6)
    for one in (lambda f: torch.func.jvp(f, (x,), (v,))[1], lambda f: torch.func.vmap(lambda i: f(i[None]))(x)):
        torch.testing.assert_close(one(frozen), one(reference), rtol=1e-3, atol=1e-4)
    packed, x, v = ec.freeze(standard()), x[:, :8], v[:, :8]
    for refused in (lambda: torch.func.jvp(packed, (x,), (v,)), lambda: torch.func.vmap(packed)(x[None])):
        with pytest.raises(ValueError, match="without gradients or torch.func"):
            refused()


@needs_kernels
@pytest.mark.parametrize("name", ["a", "c", "k"])
def test_what_needs_the_weights_is_refused_in_one_line(name: str):
    network = trained(ec.create_model(name, num_classes=7, layout="cifar", width=0.125))
    frozen, images = ec.freeze(network), torch.randn(1, 3, 32, 32)
    refused = {
        "takes no weights": lambda: frozen.load_state_dict(network.state_dict(), strict=False),
        "cannot be trained": lambda: frozen.train(),
        "cannot be counted": lambda: ec.count(frozen, (3, 32, 32)),
        "cannot be converted": lambda: ec.convert(frozen, "sic"),
        "cannot be given another backend": lambda: set_backend(frozen, "reference"),
        "cannot be exported": lambda: torch.export.export(frozen, (images,), strict=False),
    }
    for why, call in refused.items():
        with pytest.raises(UserError, match=why):
            call()
    assert not frozen.training and frozen._one_call.is_current()


@needs_kernels
def test_pruned_networks_and_those_with_weight_norm_are_frozen_where_their_weights_are_plain():
    network = trained(ec.create_model("c", num_classes=7, layout="cifar", width=0.125))
    first, second, *_ = network.stages.stage2.layers
    prune.l1_unstructured(first.conv.projection, "weight", 0.5)
    torch.nn.utils.weight_norm(second.conv.projection)
    images = torch.randn(2, 3, 32, 32)
    frozen = ec.freeze(network.eval())
    assert kinds(frozen).count(ConvLayer) == 3 and FrozenLayer in kinds(frozen)
    for other in (frozen, ec.prepare_for_export(network)):
        torch.testing.assert_close(other(images), network(images), rtol=1e-3, atol=1e-3)


@needs_kernels
@pytest.mark.parametrize("model", ["a", "c", "k"])
def test_empty_batches_and_other_default_types(model: str):
    network = trained(ec.create_model(model, num_classes=7, layout="cifar", width=0.125))
    torch.set_default_dtype(torch.float64)
    try:
        frozen = copy.deepcopy(ec.freeze(network))
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same(frozen, network, torch.randn(2, 3, 32, 32), 1e-4)
    assert frozen(torch.zeros(0, 3, 32, 32)).shape == (0, 7)


def test_a_residual_input_that_does_not_fit_is_refused_as_by_the_layer():
    layer = trained(ConvLayer(nn.Conv2d(16, 16, 3, padding=1), 16, 16))
    layer.conv.padding = (0, 0)
    with pytest.raises(RuntimeError, match="must match"):
        ec.freeze(layer)(torch.randn(2, 16, 9, 9))


@needs_kernels
def test_a_layer_with_several_names_is_frozen_everywhere():
    layer = trained(build_layer("sic", 8, 8, kernel_size=3))
    frozen = ec.freeze(nn.Sequential(layer, nn.ReLU(), layer).eval())
    assert type(frozen[0]) is FrozenLayer and frozen[2] is frozen[0]


def test_standard_layers_alone_stay_in_float32_under_autocast():
    frozen, x = ec.freeze(standard()), torch.randn(2, 8, 6, 6)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(frozen(x.bfloat16()), frozen(x.bfloat16().float()))


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


def _save_logits(network: nn.Module, x: Tensor, path: Path) -> None:
    torch.save(network(x), path)


def test_a_spawned_process_takes_a_frozen_network(tmp_path: Path):
    """Such a process gets tensors by descriptors of files, which must be open until the process has started."""
    network, x = ec.create_model("a", num_classes=10, layout="cifar", width=0.125).eval(), torch.randn(2, 3, 32, 32)
    frozen = ec.freeze(network)
    process = get_context("spawn").Process(target=_save_logits, args=(frozen, x, tmp_path / "logits"))
    process.start()
    process.join(300)
    torch.testing.assert_close(torch.load(tmp_path / "logits"), frozen(x))
