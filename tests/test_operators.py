"""The operators as PyTorch's dispatcher, its compiler, its transforms and another device see them; without kernels too."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap

from efficientconv.layers import LAYERS, Topology, build_layer
from efficientconv.layers import operators as module
from efficientconv.layers.backend import set_backend
from efficientconv.layers.operators import CONVOLUTIONS, ops
from efficientconv.models import create_model
from efficientconv.native import build

needs_kernels = pytest.mark.skipif(not build.available(), reason="no C++ compiler")
PLANE, FULL = ((3, 4), (2, 3), "center"), ((), (), "center")
ORDERS = [torch.contiguous_format, torch.channels_last]


def weights(name: str) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = {
        "sic": [(6, 1, 3, 3), (4, 6, 1, 1)],
        "topological": [(12, 6, 3, 3)],
        "spatial_bottleneck": [(6, 1, 2, 2), (5, 6, 1, 1), (5, 1, 2, 2)],
    }
    return [torch.randn(shape).requires_grad_() for shape in shapes[name]]


REST = {"sic": (6, 1, *FULL), "topological": (1, *PLANE), "spatial_bottleneck": (2, 1)}
INPUTS = {"sic": 6, "topological": 12, "spatial_bottleneck": 6}
OUTPUTS = {"sic": 4, "topological": 12, "spatial_bottleneck": 5}


def call(name: str, order: torch.memory_format = torch.contiguous_format, dtype: torch.dtype = torch.float32) -> tuple:
    x = torch.randn(2, INPUTS[name], 5, 7).contiguous(memory_format=order)
    return (x.to(dtype).requires_grad_(), *(w.detach().to(dtype).requires_grad_() for w in weights(name)), *REST[name])


def end(channels: int, residual: Tensor | None, training: bool) -> tuple:
    gamma, beta, mean, var = torch.rand(4, channels)
    return residual, gamma.requires_grad_(), beta.requires_grad_(), mean, var, torch.tensor(3), training, 0.1, 1e-5


def all_calls(order: torch.memory_format, dtype: torch.dtype) -> dict[str, tuple]:
    calls = {}
    for name in CONVOLUTIONS:
        arguments = call(name, order, dtype)
        y = getattr(ops, name)(*arguments)
        y, cells = (y[0], y[1:]) if isinstance(y, tuple) else (y, ())
        wanted = 1 + len(weights(name))
        calls[name] = arguments
        detached = [a.detach() for a in (torch.randn_like(y), *arguments[:wanted], *cells)]
        calls[f"{name}_backward"] = (*detached, *arguments[wanted:], [True] * wanted)
    return calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", [f"{name}{kind}" for name in CONVOLUTIONS for kind in ("", "_backward")])
def test_convolutions_and_their_gradients_pass_torchs_checks(
    name: str, order: torch.memory_format, dtype: torch.dtype
) -> None:
    arguments = all_calls(order, dtype)[name]
    wanted = ["test_schema", "test_faketensor", "test_aot_dispatch_dynamic"]
    if not name.endswith("_backward"):
        wanted.append("test_autograd_registration")
    torch.library.opcheck(getattr(ops, name).default, arguments, test_utils=wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["kernel", "reference"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_each_set_of_wanted_gradients_is_that_of_all(name: str, dtype: torch.dtype) -> None:
    backward = getattr(ops, f"{name}_backward")
    *arguments, every = all_calls(torch.contiguous_format, dtype)[f"{name}_backward"]
    full = backward(*arguments, every)
    for wanted in itertools.product([True, False], repeat=len(every)):
        for found, expected, needed in zip(backward(*arguments, list(wanted)), full, wanted, strict=True):
            assert torch.equal(found, expected) if needed else found is None or dtype is torch.float32
    torch.library.opcheck(backward.default, (*arguments, [True] + [False] * (len(every) - 1)), test_utils="test_schema")
    x, *rest = call(name, dtype=dtype)
    frozen = [a.detach() if isinstance(a, Tensor) else a for a in rest]

    def gradient(operator: Callable) -> Tensor:
        y = operator(x, *frozen)
        y = y if isinstance(y, Tensor) else y[0]
        return torch.autograd.grad(y, x, torch.ones_like(y))[0]

    compiled = torch.compile(getattr(ops, name), backend="aot_eager")
    torch.testing.assert_close(gradient(compiled), gradient(getattr(ops, name)))


COMPOSITES = {
    **{f"{name}_layer, training {now}": (f"{name}_layer", now) for name in CONVOLUTIONS for now in (True, False)},
    "norm_relu": ("norm_relu", True),
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", COMPOSITES)
def test_layers_pass_torchs_checks(case: str, order: torch.memory_format) -> None:
    name, training = COMPOSITES[case]
    if name == "norm_relu":
        x = torch.randn(2, 16, 5, 7).contiguous(memory_format=order).requires_grad_()
        arguments = (x, *end(16, x, training))
    else:
        of = name.removesuffix("_layer")
        x, *others = call(of, order)
        arguments = (x, *others, *end(OUTPUTS[of], x if INPUTS[of] == OUTPUTS[of] else None, training))
    torch.library.opcheck(getattr(ops, name).default, arguments)


@pytest.mark.parametrize("order", ORDERS)
def test_first_layers_and_pools_pass_torchs_checks(order: torch.memory_format) -> None:
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=order).requires_grad_()
    vectors = [torch.rand(5) for _ in range(4)]
    torch.library.opcheck(ops.stem.default, (x, torch.randn(5, 3, 3, 3), 1, 1, *vectors, 0.1, [2, 2, 0]))
    torch.library.opcheck(ops.max_pool.default, (x, [2, 2, 0]))


@needs_kernels
@pytest.mark.parametrize("order", ORDERS)
def test_frozen_layers_and_their_weights_pass_torchs_checks(order: torch.memory_format) -> None:
    x, filters, vector = torch.randn(2, 12, 5, 7).contiguous(memory_format=order), torch.randn(12, 1, 3, 3), torch.rand(12)
    for topology, fan in ((PLANE, 6), (FULL, 12)):
        unfrozen = torch.randn(12, fan, 1, 1), vector, 12, *topology
        torch.library.opcheck(ops.frozen_weight.default, unfrozen)
        arguments = (x, x, filters, ops.frozen_weight(*unfrozen), vector, 3, *topology)
        torch.library.opcheck(ops.frozen_layer.default, arguments)
    cells, projection = torch.randn(2, 12, 1, 2, 2), torch.randn(12, 12, 1, 1)
    arguments = (x, x, cells[0], projection, cells[1], vector, 2, 1)
    torch.library.opcheck(ops.frozen_spatial_bottleneck.default, arguments)


def layer_of(name: str, **args: object) -> nn.Module:
    needs = {"topological": {"topology": Topology((3, 4), (2, 3))}, "unravelled": {"bases": 2}, "grouped": {"groups": 2}}
    torch.manual_seed(0)
    return build_layer(name, 12, 12, kernel_size=3, **needs.get(name, {}), **args)


EACH = pytest.mark.parametrize("name", LAYERS.names())


@EACH
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("alone", [True, False])
def test_maps_stay_channels_last(name: str, training: bool, alone: bool) -> None:
    layer = layer_of(name).train(training)
    x = torch.randn(2, 12, 7, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = (layer.conv if alone else layer)(x)
    y.sum().backward()
    for maps in (y, x.grad):
        assert maps.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert (layer.conv if alone else layer)(x).is_contiguous(memory_format=torch.channels_last)


@EACH
@pytest.mark.parametrize("training", [True, False])
def test_compiled_layers_are_one_graph_and_compute_the_same(name: str, training: bool) -> None:
    layer = layer_of(name).train(training)
    again, graphs = copy.deepcopy(layer), []

    def backend(graph: torch.fx.GraphModule, _: list) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    x = torch.randn(2, 12, 7, 8)
    torch.compiler.reset()
    compiled = torch.compile(again, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
    called = {str(node.target) for graph in graphs for node in graph.graph.nodes}
    if torch.__version__ >= "2.14":  # before, torch takes each compilation for an export, which gets the reference
        has_operator = name not in ("standard", "grouped") and build.available()
        assert any("efficientconv" in target for target in called) >= has_operator, called


@needs_kernels
@EACH
@pytest.mark.parametrize("training", [True, False])
def test_the_compiler_traces_forward_and_backward(name: str, training: bool) -> None:
    layer = layer_of(name).train(training)
    again = copy.deepcopy(layer)
    torch.compiler.reset()
    compiled = torch.compile(again, backend="aot_eager", fullgraph=True, dynamic=True)
    for size in (7, 9):
        x = torch.randn(2, 12, size, 8)
        found = []
        for f, module_ in ((compiled, again), (layer, layer)):
            module_.zero_grad()
            maps = x.clone().requires_grad_()
            y = f(maps)
            y.square().sum().backward()
            found.append([y, maps.grad, *(p.grad for p in module_.parameters()), *module_.buffers()])
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("alone", [True, False])
@EACH
def test_function_transforms(name: str, alone: bool) -> None:
    layer = layer_of(name).eval()
    reference = set_backend(copy.deepcopy(layer), "reference")
    x, along = torch.randn(2, 3, 2, 12, 6, 7)
    for transformed in (
        lambda f: vmap(f)(x),
        lambda f: grad(lambda maps: f(maps).square().sum())(x[0]),
        lambda f: vmap(grad(lambda maps: f(maps).square().sum()))(x),
        lambda f: jvp(f, (x[0],), (along[0],))[1],
        lambda f: grad(lambda maps: grad(lambda inner: f(inner).pow(3).sum())(maps).sum())(x[0]),
    ):
        found = [transformed(f.conv if alone else f) for f in (layer, reference)]
        torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("model", ["a", "c", "i", "j"])
def test_function_transforms_of_a_network(model: str, order: torch.memory_format) -> None:
    """In float64: rounding would change which values ReLU passes."""
    network = create_model(model, num_classes=3, layout="cifar", width=0.25).double().eval()
    reference = set_backend(copy.deepcopy(network), "reference")
    x, along = (images.contiguous(memory_format=order) for images in torch.randn(2, 2, 3, 32, 32).double())
    for transformed in (
        lambda f: grad(lambda images: f(images).square().sum())(x),
        lambda f: jvp(f, (x,), (along,))[1],
        lambda f: vmap(grad(lambda image: f(image[None]).square().sum()))(x),
    ):
        torch.testing.assert_close(transformed(network), transformed(reference))


@pytest.mark.parametrize("name", ["sic", "topological", "spatial_bottleneck"])
def test_gradients_of_a_sample_each(name: str) -> None:
    layer = layer_of(name).eval()
    parameters = {key: p.detach() for key, p in layer.named_parameters()}
    x = torch.randn(3, 12, 6, 7)

    def loss(weights: dict, image: Tensor) -> Tensor:
        return functional_call(layer, weights, (image[None],)).square().sum()

    found = vmap(grad(loss), (None, 0))(parameters, x)
    for i, image in enumerate(x):
        layer.zero_grad()
        layer(image[None]).square().sum().backward()
        for key, p in layer.named_parameters():
            torch.testing.assert_close(found[key][i], p.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["sic", "topological", "spatial_bottleneck"])
def test_a_layer_after_itself_has_the_right_second_derivatives(name: str) -> None:
    """Its input depends on its weights."""
    layer = layer_of(name).eval().conv
    reference, found = set_backend(copy.deepcopy(layer).double(), "reference"), []
    x = torch.randn(1, 12, 6, 6)
    for conv, maps in ((layer, x), (reference, x.double())):
        parameters = list(conv.parameters())
        first = torch.autograd.grad(conv(conv(maps)).pow(3).sum(), parameters, create_graph=True)
        found.append([*first, *torch.autograd.grad(sum(g.square().sum() for g in first), parameters)])
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_operators_called_alone_have_tangents_second_derivatives_and_samples(name: str) -> None:
    operator, reference = getattr(ops, name), CONVOLUTIONS[name]
    x, *others = call(name)

    def maps(f: object, x: Tensor) -> Tensor:
        y = f(x, *others)
        return y[0] if isinstance(y, tuple) else y

    def image_of(f: object, image: Tensor) -> Tensor:
        return maps(f, image[None])

    found = []
    for f in (operator, reference):
        (first,) = torch.autograd.grad(maps(f, x).pow(3).sum(), x, create_graph=True)
        second = torch.autograd.grad(first.square().sum(), (x, others[0]))
        found.append([first, *second, vmap(partial(image_of, f))(x)])
        if f is reference or build.available():
            with forward_ad.dual_level():
                found[-1].append(forward_ad.unpack_dual(maps(f, forward_ad.make_dual(x, torch.ones_like(x)))).tangent)
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("shape", [(5, 7), (2, 0, 7)], ids=["unbatched", "no rows"])
def test_what_the_kernels_do_not_take_has_gradients(name: str, shape: tuple) -> None:
    """Unbatched maps; the gradients of many outputs at once."""
    x, *others = call(name)
    x = x.detach()[0, :, :5] if shape == (5, 7) else x.detach()[:, :, :0]
    found = []
    for f in (getattr(ops, name), CONVOLUTIONS[name]):
        maps = x.clone().requires_grad_()
        try:
            y = f(maps, *others)
        except RuntimeError as error:
            found.append([str(error)])
            continue
        y = y[0] if isinstance(y, tuple) else y
        found.append([y, *torch.autograd.grad(y.square().sum(), (maps, *others[: len(weights(name))]))])
    for ours, theirs in zip(*found, strict=True):
        assert ours == theirs if isinstance(ours, str) else torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_gradients_of_many_outputs_at_once(name: str) -> None:
    arguments, found = call(name), []
    for f in (getattr(ops, name), CONVOLUTIONS[name]):
        y = f(*arguments)
        y = y[0] if isinstance(y, tuple) else y
        along = torch.ones(3, *y.shape) * torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1, 1)
        found.append(torch.autograd.grad(y, arguments[:2], along, is_grads_batched=True))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("model", ["a", "c", "i", "j"])
def test_gradients_of_a_networks_outputs_at_once(model: str, order: torch.memory_format) -> None:
    """As torch.autograd.functional.jacobian(vectorize=True) and torch.vmap ask for them, in training."""
    network = create_model(model, num_classes=3, layout="cifar", width=0.25).train()
    images = torch.randn(2, 3, 32, 32).contiguous(memory_format=order).requires_grad_()
    outputs, of = network(images).sum(0), [images, *network.parameters()]
    each = zip(*(torch.autograd.grad(outputs, of, along, retain_graph=True) for along in torch.eye(3)))
    at_once = torch.autograd.grad(outputs, of, torch.eye(3), retain_graph=True, is_grads_batched=True)
    mapped = vmap(lambda along: torch.autograd.grad(outputs, of, along, retain_graph=True))(torch.eye(3))
    for expected, *found in zip(each, at_once, mapped, strict=True):
        for ours in found:
            assert not ours.requires_grad
            theirs = torch.stack(expected)  # as a whole: rounding changes which of a few values ReLU passes
            assert ours.shape == theirs.shape and (ours - theirs).norm() < 1e-2 * theirs.norm()


# ---------------------------------------------------------------- another device


@pytest.mark.parametrize("name, operator", [("sic", "sic"), ("unravelled", "sic"), ("topological", "topological"),
                                            ("spatial_bottleneck", "spatial_bottleneck")])  # fmt: skip
@pytest.mark.parametrize("alone", [True, False])
def test_another_device_is_one_registration(name: str, operator: str, alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`meta` stands for it; torch 2.11 refuses a second kernel of Python for `meta`, unless it may override."""
    layer, seen = layer_of(name, device="meta").train(), []
    reference = CONVOLUTIONS[operator]

    def kernel(*args: object) -> object:
        seen.append(args)
        return reference(*args)

    monkeypatch.setattr(module, "library", torch.library.Library("efficientconv", "IMPL"))
    monkeypatch.setattr(module.library, "impl", partial(module.library.impl, allow_override=True))
    monkeypatch.setattr(module, "DEVICES", module.DEVICES)
    before = set(module.DEVICES)
    try:
        module.register(operator, "meta", kernel)
        x = torch.randn(2, 12, 6, 7, device="meta").requires_grad_()
        y = (layer.conv if alone else layer)(x)
        assert y.shape == (2, 12, 6, 7) and len(seen) == 1 and seen[0][0].device.type == "meta"
        y.sum().backward()
        assert x.grad.shape == x.shape and all(p.grad is not None for p in layer.conv.parameters())
    finally:
        module.DEVICES.intersection_update(before)
        module.library._destroy()
