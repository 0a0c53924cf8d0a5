"""Networks for other programs: what is folded and baked in computes the same, in PyTorch and in the exported file."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from conftest import command
from efficientconv import create_model, layers, load_run, prepare_for_export
from efficientconv.deploy.export import agreement, exported, runner
from efficientconv.layers import LAYERS, ConvLayer, TopologicalConv2d, Topology, build_layer
from efficientconv.models import list_models, model_config
from reference import CASES, NEEDS

OURS = [name for name in list_models() if model_config(name).trunk != "torchvision"]
FORMATS = ["pt2", pytest.param("onnx", marks=pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed"))]  # fmt: skip
KNOWN = {name for name in LAYERS.names() if hasattr(layers, LAYERS.get(name).__name__)}  # others have a forward of their own
PLAIN = {nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d}
TOPOLOGICAL = {"kernel_size": 3, "topology": Topology((2, 4), (1, 2))}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def settled(model: nn.Module) -> nn.Module:
    """In evaluation mode, batch norms as after a training."""
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
    return model.eval()


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("name, n, m, args", [(name, *case) for name in LAYERS.names() for case in CASES[name]], ids=str)
def test_a_layer_becomes_plain_convolutions_that_compute_the_same(name: str, n: int, m: int, args: dict, fold: bool) -> None:
    conv = LAYERS.get(name)(n, m, **args).double()
    layer = settled(ConvLayer(conv, n, m, residual=False).double())
    before, x = {k: v.clone() for k, v in layer.state_dict().items()}, torch.randn(2, n, 7, 6, dtype=torch.float64)
    plain = prepare_for_export(layer, fold_batch_norm=fold)
    torch.testing.assert_close(plain(x), layer(x), rtol=1e-10, atol=1e-10)
    if name in KNOWN:
        assert {type(module) for module in plain.modules() if hasattr(module, "weight")} <= PLAIN
    assert isinstance(plain.bn, nn.Identity) == (fold and name in KNOWN)
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items()), "the layer itself is as it was"
    torch.testing.assert_close(prepare_for_export(conv)(x), conv.eval()(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("model", ["a", "f", "i", "j", "m"])
def test_a_traced_network_runs_without_this_package(model: str) -> None:
    """torch.jit.trace, and torch.onnx.export(dynamo=False), traces, too. torch traces twice: with and without gradients."""
    network = settled(create_model(model, num_classes=3, layout="cifar", width=0.25))
    traced = torch.jit.trace(network, torch.randn(2, 3, 32, 32))
    assert "efficientconv::" not in str(traced.inlined_graph)
    images = torch.randn(3, 3, 40, 36)
    torch.testing.assert_close(traced(images), network(images), rtol=1e-3, atol=1e-3)


class Standardized(nn.Conv2d):
    """A convolution with a forward of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight / self.weight.norm(), self.bias)


def parametrized(layer: ConvLayer) -> None:
    for module in list(layer.modules()):
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, TopologicalConv2d)):
            parametrizations.weight_norm(module)


def pruned(layer: ConvLayer) -> None:
    for module in list(layer.modules()):
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, TopologicalConv2d)):
            prune.random_unstructured(module, "weight", 0.5)


def hooked(layer: ConvLayer) -> None:
    layer.conv.register_forward_hook(lambda module, inputs, y: y.abs())


def of_another_class(layer: ConvLayer) -> None:
    layer.conv = Standardized(layer.conv.in_channels, layer.conv.out_channels, 3, padding=1)


@pytest.mark.parametrize("change", [parametrized, pruned, hooked, of_another_class], ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", LAYERS.names())
@torch.no_grad()
def test_a_changed_layer_is_folded_only_if_it_computes_the_same(name: str, change: Callable) -> None:
    n, m, args = NEEDS[name]
    layer, x = settled(build_layer(name, n, m, kernel_size=3, **args)), torch.randn(2, n, 6, 6)
    change(layer)
    layer(x)  # pruning computes the weights here, and torch copies no others
    layer.load_state_dict({key: 2 * value for key, value in layer.state_dict().items()})
    plain = prepare_for_export(layer, fold_batch_norm=True)
    torch.testing.assert_close(plain(x), layer(x))
    assert isinstance(plain.bn, nn.Identity) == (change is parametrized and name in KNOWN)
    assert not any(map(parametrize.is_parametrized, plain.modules()))


@pytest.mark.parametrize("name", LAYERS.names())
def test_a_batch_norm_behind_the_residual_connection_stays(name: str) -> None:
    args = {"kernel_size": 3, **NEEDS[name][2]}
    n = NEEDS[name][0]
    layer, x = settled(build_layer(name, n, n, residual=True, batch_norm="behind", **args)), torch.randn(2, n, 6, 6)
    torch.testing.assert_close(prepare_for_export(layer, fold_batch_norm=True)(x), layer(x))


def test_layers_that_share_a_convolution_or_a_weight_are_folded_each_by_its_own_norm() -> None:
    first, second, third = (settled(build_layer("topological", 8, 8, **TOPOLOGICAL)) for _ in range(3))
    second.conv, third.conv.weight = first.conv, first.conv.weight
    network, x = nn.Sequential(first, second, third), torch.randn(2, 8, 6, 6)
    plain = prepare_for_export(network, fold_batch_norm=True)
    torch.testing.assert_close(plain(x), network(x))
    assert not any(isinstance(module, (TopologicalConv2d, nn.BatchNorm2d)) for module in plain.modules())


def test_weights_are_stored_and_not_computed_as_quantization_wants_them() -> None:
    """torchao's prepare_pt2e refuses another: "Expected get_attr node"."""
    network = settled(create_model("i", 10, layout="cifar", width=0.125))
    images = torch.zeros(2, 3, 32, 32)

    def computed(model: nn.Module) -> list[str]:
        graph = torch.export.export(model, (images,)).module().graph
        convolutions = graph.find_nodes(op="call_function", target=torch.ops.aten.conv2d.default)
        return [node.name for node in convolutions if node.args[1].op != "get_attr"]

    assert not computed(prepare_for_export(network)) and computed(network)


@pytest.mark.parametrize("name", OURS)
def test_a_whole_network_without_batch_norms_computes_the_same(name: str) -> None:
    network = settled(create_model(name, 10, layout="cifar", width=0.125).double())
    plain = prepare_for_export(network, fold_batch_norm=True)
    assert not any(isinstance(module, (nn.BatchNorm2d, TopologicalConv2d)) for module in plain.modules()) or name in "lmno"
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(plain(x), network(x), rtol=1e-8, atol=1e-8 * network(x).abs().max().item())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["i", "j", "l"])
def test_the_file_gives_what_the_network_gives_for_any_number_of_images(name: str, format: str) -> None:
    network = settled(create_model(name, 10, layout="cifar", width=0.125))
    run = runner(exported(prepare_for_export(network), format, (3, 32, 32), classes="abc"), format)
    for batch in (None, 1, 3):
        agreed = agreement(network, run, (3, 32, 32), batch)
        assert agreed.images >= 64 and agreed.same_class == agreed.images and agreed.largest_difference < 1e-4


def test_another_network_is_told_from_it() -> None:
    network, other = (settled(create_model("c", 10, layout="cifar", width=0.125)) for _ in range(2))
    agreed = agreement(network, other, (3, 32, 32))
    assert agreed.same_class < 64 and agreed.largest_difference > 0.01 and not agreed.holds()


def test_the_same_classes_with_other_logits_are_told_from_it() -> None:
    network = settled(create_model("c", 10, layout="cifar", width=0.125))
    agreed = agreement(network, lambda images: 2 * network(images), (3, 32, 32))
    assert agreed.same_class == 64 and not agreed.holds()
    assert not agreement(network, lambda images: math.nan * network(images), (3, 32, 32)).holds()


def test_networks_of_others_stay_as_they_are_in_a_copy() -> None:
    network = torchvision.models.resnet18(num_classes=4).train()
    plain = prepare_for_export(network, fold_batch_norm=True)
    assert plain is not network and network.training and not plain.training and isinstance(plain.bn1, nn.BatchNorm2d)


# ---------------------------------------------------------------- scripts/export.py


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_is_exported_checked_and_measured(format: str, finished_run, tmp_path) -> None:
    """Or published weights, by their name; the file is then written where the command is."""
    named = format == "pt2"
    source, output = ("a_cifar10", tmp_path / "a_cifar10.pt2") if named else (finished_run, tmp_path / "new" / "c.onnx")
    chosen = [] if named else [f"output={output}"]
    done = command("scripts/export.py", f"run={source}", f"format={format}", "batch=2", *chosen, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "checked: 64 of 64 images in the same class" in done.stdout and "ms per image" in done.stdout
    for name in ("this network in PyTorch", f"the {format} file"):
        assert re.search(rf"^{name} +[\d.]+ +[\d.]+ (arithmetic|memory)$", done.stdout, re.MULTILINE)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [output]
    run, images = runner(output.read_bytes(), format), torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(run(images), load_run(source, device="cpu").model(images), rtol=1e-3, atol=1e-4)


def test_classes_are_in_the_file(finished_run) -> None:
    onnx = pytest.importorskip("onnx")
    classifier = load_run(finished_run, device="cpu")
    data = exported(prepare_for_export(classifier.model), "onnx", (3, 32, 32), classes=classifier.run.classes)
    metadata = {entry.key: entry.value for entry in onnx.load_from_string(data).metadata_props}
    assert json.loads(metadata["classes"]) == classifier.run.classes


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["format=tflite"], "format: input should be 'onnx' or 'pt2'"),
        (["format=pt2", "output=c.onnx"], "output=c.onnx is no name of a pt2 file; end it with .pt2"),
        (["batch=0"], "batch: input should be greater than 0"),
        (["run=nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, finished_run) -> None:
    done = command("scripts/export.py", f"run={finished_run}", *arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
