"""Networks for other programs: what is folded and baked in computes the same, in PyTorch and in the exported file."""

from __future__ import annotations

import importlib.util
import json
import re

import pytest
import torch
import torchvision
from torch import nn

from conftest import command
from efficientconv import create_model, load_run, prepare_for_export
from efficientconv.export import agreement, exported, runner
from efficientconv.layers import LAYERS, ConvLayer, TopologicalConv2d
from efficientconv.models import list_models, model_config
from reference import CASES

OURS = [name for name in list_models() if model_config(name).trunk != "torchvision"]
FORMATS = ["pt2", pytest.param("onnx", marks=pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed"))]  # fmt: skip


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
    assert not any(isinstance(module, TopologicalConv2d) for module in plain.modules())
    assert isinstance(plain.bn, nn.Identity) == fold
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items()), "the layer itself is as it was"
    torch.testing.assert_close(prepare_for_export(conv)(x), conv.eval()(x), rtol=1e-10, atol=1e-10)


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
    assert agreed.same_class < 64 and agreed.largest_difference > 0.01


def test_networks_of_others_stay_as_they_are_in_a_copy() -> None:
    network = torchvision.models.resnet18(num_classes=4).train()
    plain = prepare_for_export(network, fold_batch_norm=True)
    assert plain is not network and network.training and not plain.training and isinstance(plain.bn1, nn.BatchNorm2d)


# ---------------------------------------------------------------- scripts/export.py


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_is_exported_checked_and_measured(format: str, finished_run, tmp_path) -> None:
    """Or published weights, by their name; the file is then written where the command is."""
    named = format == "pt2"
    source, output = ("a_cifar10", tmp_path / "a_cifar10.pt2") if named else (finished_run, tmp_path / "c.onnx")
    chosen = [] if named else [f"output={output}"]
    done = command("scripts/export.py", f"run={source}", f"format={format}", "batch=2", *chosen, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "checked: 64 of 64 images in the same class" in done.stdout and "ms per image" in done.stdout
    for name in ("this network in PyTorch", f"the {format} file"):
        assert re.search(rf"^{name} +[\d.]+$", done.stdout, re.MULTILINE)
    assert list(tmp_path.iterdir()) == [output]
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
