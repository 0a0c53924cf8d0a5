"""Networks of others with this project's layers: exact where it can be, the nearest where not, and a report of all of it."""

from __future__ import annotations

import copy
import itertools
import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from conftest import command
from efficientconv import convert, count
from efficientconv.complexity import Cost
from efficientconv.conversion import Report
from efficientconv.decomposition import start_from_weight
from efficientconv.errors import UserError
from efficientconv.layers import SICConv2d, StandardConv2d, UnravelledConv2d
from efficientconv.layers.backend import set_backend


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def trained_looking(name: str) -> nn.Module:
    """A network of torchvision in double precision, its batch norms away from their first state."""
    model = torchvision.models.get_model(name, num_classes=10).double()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.normal_(norm.running_mean)
        nn.init.normal_(norm.bias)
    return model.eval()


# ---------------------------------------------------------------- the networks of torchvision


# convolutions that can be replaced, of all
REPLACED = {"resnet18": (17, 20), "mobilenet_v2": (1, 52), "regnet_x_400mf": (23, 71)}


@pytest.mark.parametrize("name", REPLACED)
def test_with_all_bases_a_network_computes_what_it_did(name: str) -> None:
    model, images = trained_looking(name), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    before, names = model(images), dict(model.named_modules())
    report = convert(model, "unravelled", bases=9, exclude=["conv1"] if name == "resnet18" else (), init="svd")
    torch.testing.assert_close(model(images), before, rtol=1e-9, atol=1e-9 * before.abs().max().item())
    assert len(report.replaced) == REPLACED[name][0] - (name == "resnet18")
    for layer in report.replaced:
        old, new = names[layer.name], model.get_submodule(layer.name)
        assert layer.error < 1e-14 and isinstance(new, UnravelledConv2d) and new.depthwise.weight.dtype == torch.float64
        assert (new.stride, new.padding, new.groups, new.training) == (old.stride, old.padding, old.groups, False)


@pytest.mark.parametrize("name", REPLACED)
def test_the_report_has_the_costs_of_both_networks(name: str) -> None:
    model = torchvision.models.get_model(name, num_classes=10)
    before = count(model, (3, 64, 64))
    report = convert(model, "sic", shape=(3, 64, 64))
    after = count(model, (3, 64, 64))
    assert (len(report.replaced), len(report.layers)) == REPLACED[name]
    assert (report.before.macs, report.before.params) == (before.macs, before.params)
    assert (report.after.macs, report.after.params) == (after.macs, after.params) and after.macs < before.macs
    for layer in report.layers:
        assert (layer.before.macs, layer.before.params) == (before.layers[layer.name].macs, before.layers[layer.name].params)
        within = after.within(layer.name)
        assert (layer.after.macs, layer.after.params) == (within.macs, within.params)
        assert isinstance(model.get_submodule(layer.name), SICConv2d) == (layer.reason is None)
    lines = str(report).splitlines()
    assert len(lines) == len(report.layers) + 1 and lines[-1].startswith("{} of {} replaced; ".format(*REPLACED[name]))
    assert {layer.reason for layer in report.skipped} <= {
        "1 x 1: nothing inside a channel", "depthwise: nothing between channels",
    }  # fmt: skip
    model(torch.randn(2, 3, 64, 64)).sum().backward()


# ---------------------------------------------------------------- the networks of timm, and one in its style


class Conv2dSame(nn.Conv2d):
    """As timm's: pads at each call, and more at the end than at the beginning."""

    def forward(self, x: Tensor) -> Tensor:
        sizes = zip(x.shape[2:], self.kernel_size, self.stride)
        rows, columns = (max((-(-size // s) - 1) * s + k - size, 0) for size, k, s in sizes)
        return super().forward(F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)))


class BatchNormAct2d(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.silu(super().forward(x))


class ConvNormAct(nn.Module):
    def __init__(self, n: int, m: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(n, m, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = BatchNormAct2d(m)

    @property
    def out_channels(self) -> int:
        return self.conv.out_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv_reduce, self.conv_expand = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv_expand(F.silu(self.conv_reduce(x.mean((2, 3), keepdim=True)))).sigmoid()


def in_timms_style() -> nn.Module:
    whole, depthwise, point = ConvNormAct(8, 12, 3, 2), ConvNormAct(12, 12, 3, groups=12), ConvNormAct(12, 6, 1)
    blocks = nn.Sequential(whole, depthwise, SqueezeExcite(12), point, ConvNormAct(point.out_channels, 4, 3, groups=2))
    return nn.Sequential(OrderedDict(conv_stem=Conv2dSame(3, 8, 3, 2), bn1=BatchNormAct2d(8), blocks=blocks))


TIMM_KEEPS = {
    "Conv2dSame is more than a convolution", "1 x 1: nothing inside a channel", "depthwise: nothing between channels",
    "not chosen",
}  # fmt: skip


def converted(network: nn.Module) -> Report:
    """With all bases of 3 x 3, where the network computes what it did."""
    network, images = network.double().eval(), torch.randn(2, 3, 65, 64, dtype=torch.float64)
    before, small = network(images), lambda _, conv: max(conv.kernel_size) <= 3
    report = convert(network, "unravelled", bases=9, init="svd", where=small, shape=(3, 65, 64))
    torch.testing.assert_close(network(images), before, rtol=1e-9, atol=1e-9 * before.abs().max().item())
    assert {layer.reason for layer in report.skipped} <= TIMM_KEEPS
    assert report.after.macs == count(network, (3, 65, 64)).macs
    return report


def test_a_network_in_timms_style_keeps_what_is_more_than_a_convolution() -> None:
    report = converted(network := in_timms_style())
    assert [layer.name for layer in report.replaced] == ["blocks.0.conv", "blocks.4.conv"]
    assert report.skipped[0].reason == "Conv2dSame is more than a convolution" and network.blocks[0].out_channels == 12


@pytest.mark.parametrize("name, replaced", [("resnet18", 16), ("tf_efficientnetv2_b0", 3), ("regnety_002", 14)])
def test_networks_of_timm(name: str, replaced: int) -> None:
    assert len(converted(pytest.importorskip("timm").create_model(name)).replaced) == replaced


# ---------------------------------------------------------------- one convolution


SETTINGS = {
    "stride": {"stride": 2},
    "padding": {"padding": (0, 1)},
    "same": {"padding": "same"},
    "dilation": {"dilation": 2, "padding": 2},
    "groups": {"groups": 2},
    "bias": {"bias": True},
    "oblong": {"kernel_size": (3, 5)},
    "even": {"kernel_size": 2},
    "reflect": {"padding": 1, "padding_mode": "reflect"},
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_a_convolution_keeps_what_it_does_and_is(setting: dict) -> None:
    conv = nn.Conv2d(4, 6, **{"kernel_size": 3, "bias": False, "dtype": torch.float64, **setting}).requires_grad_(False)
    model, x = nn.Sequential(conv).eval(), torch.randn(2, 4, 9, 11, dtype=torch.float64)
    before = model(x)
    convert(model, "unravelled", bases=conv.weight[0, 0].numel(), init="svd")
    torch.testing.assert_close(model(x), before, rtol=1e-10, atol=1e-10)
    assert type(model[0]) is UnravelledConv2d and not model[0].training
    assert not any(p.requires_grad for p in model.parameters()) and (model[0].bias is None) == (conv.bias is None)
    convert(other := nn.Sequential(conv).train(), "sic")
    assert other(x).shape == before.shape and other[0].training, "another layer, the same maps"


def test_devices_are_kept() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, device="meta", dtype=torch.bfloat16))
    convert(model, "sic")
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("meta", torch.bfloat16)}


@pytest.mark.parametrize("bases, groups", list(itertools.product([1, 2, 5], [1, 2])))
def test_fewer_bases_leave_out_the_weakest_directions_of_each_channel(bases: int, groups: int) -> None:
    """Against numpy's singular values, channel by channel: no approximation of that rank comes nearer."""
    weight = torch.randn(8, 6 // groups, 3, 3)
    layer = UnravelledConv2d(6, 8, 3, bases=bases, groups=groups)
    error = start_from_weight(layer, weight)
    left_out = 0.0
    for block, channel in itertools.product(weight.double().numpy().reshape(groups, 8 // groups, -1, 9), range(6 // groups)):
        left_out += (np.linalg.svd(block[:, channel], compute_uv=False)[bases:] ** 2).sum()
    assert error == pytest.approx(np.sqrt(left_out) / np.linalg.norm(weight), abs=1e-6)
    assert error == pytest.approx(float((layer.dense_weight() - weight).norm() / weight.norm()), abs=1e-6)


def test_bases_beyond_the_rank_keep_their_filters_and_have_no_share() -> None:
    layer = UnravelledConv2d(2, 4, 3, bases=9)
    drawn = layer.depthwise.weight.detach().clone().reshape(2, 9, 9)
    assert start_from_weight(layer, torch.randn(4, 2, 3, 3)) < 1e-6
    assert torch.equal(layer.depthwise.weight.reshape(2, 9, 9)[:, 4:], drawn[:, 4:])
    assert not layer.projection.weight.reshape(4, 2, 9)[..., 4:].any()
    layer(torch.randn(1, 2, 5, 5)).sum().backward()
    assert layer.projection.weight.grad.abs().min() > 0, "they can learn"


# ---------------------------------------------------------------- which ones


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.again = self.twice
        self.tied, self.other = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.other.weight = self.tied.weight
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, padding=1))
        self.watched = nn.Conv2d(4, 4, 3, padding=1)
        self.watched.register_forward_hook(lambda *_: None)
        self.doubled = nn.Conv2d(4, 4, 3, padding=1)
        self.doubled.forward = lambda x: 2 * nn.Conv2d.forward(self.doubled, x)
        self.ours = StandardConv2d(4, 4, 3)
        self.wide = nn.Conv2d(4, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.other(self.tied(self.again(self.twice(self.first(x)))))
        return self.wide(self.ours(self.doubled(self.watched(self.normed(x)))))


STAY = {
    "tied": "its weight is another module's too", "other": "its weight is another module's too",
    "normed": "ParametrizedConv2d is more than a convolution", "watched": "it has hooks",
    "doubled": "it has a forward of its own",
}  # fmt: skip


def test_what_a_new_layer_would_break_stays() -> None:
    model = Net()
    report = convert(model, "sic", shape=(3, 8, 8))
    assert {layer.name: layer.reason for layer in report.skipped} == STAY
    assert [layer.name for layer in report.replaced] == ["first", "twice", "ours", "wide"]
    assert model.again is model.twice and isinstance(model.again, SICConv2d)
    assert model(torch.randn(1, 3, 8, 8)).shape == (1, 8, 6, 6)


def test_a_shared_bias_stays_shared_and_a_frozen_one_frozen() -> None:
    model = nn.Sequential(*(nn.Conv2d(4, 4, 3) for _ in range(3)))
    model[1].bias = model[0].bias
    model[2].bias.requires_grad_(False)
    report = convert(model, "sic")
    assert [layer.reason for layer in report.layers] == ["its bias is another module's too"] * 2 + [None]
    assert model[1].bias is model[0].bias
    assert [p.requires_grad for p in (model[2].bias, model[2].depthwise.weight)] == [False, True]


def test_names_patterns_and_a_function_choose() -> None:
    replaced = lambda **choice: {layer.name for layer in convert(Net(), "sic", **choice).replaced}  # noqa: E731  said once
    assert replaced(include=["t*", "first"]) == {"twice", "first"}
    assert replaced(exclude=["t*", "first"]) == {"ours", "wide"}
    assert replaced(include=iter(["t*", "first"]), exclude=iter(["first"])) == {"twice"}
    assert replaced(include="t*") == {"twice"} and replaced(include=["t*", "wide"], exclude="wide") == {"twice"}
    assert replaced(include=["*"], exclude=["wide"], where=lambda name, conv: conv.in_channels == 4) == {"twice", "ours"}


def test_what_a_layer_cannot_be_stays_with_the_layers_own_reason() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 4), nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, groups=2))
    report = convert(model, "channel_bottleneck")
    assert [layer.reason and layer.reason[:40] for layer in report.layers][:2] != [None, None]
    assert "channel_bottleneck: 3 input channels cannot be halved" in report.layers[0].reason
    assert report.layers[1].reason is None and "its 2 groups, which a channel_bottleneck layer has not" in str(report)


@pytest.mark.parametrize("kind", ["complex", "meta", "nan"])
def test_weights_that_have_no_svd_stay(kind: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, dtype=torch.complex64 if kind == "complex" else None))
    model.to("meta" if kind == "meta" else "cpu")
    if kind == "nan":
        model[0].weight.data[0] = float("nan")
    report = convert(model, "unravelled", bases=9, init="svd")
    assert type(model[0]) is nn.Conv2d and "no real, finite numbers" in report.layers[0].reason


def test_a_lazy_model_is_to_be_run_first() -> None:
    with pytest.raises(UserError, match="run it on one image first"):
        convert(nn.Sequential(nn.LazyConv2d(8, 3), nn.Conv2d(8, 8, 3)), "sic")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"layer": "sik"}, "unknown layer 'sik': did you mean 'sic'"),
        ({"layer": "sic", "bases": 2}, "has no argument 'bases'"),
        ({"layer": "sic", "excludes": ["first"]}, "has no argument 'excludes': did you mean 'exclude'"),
        ({"layer": "unravelled"}, "layer 'unravelled' needs bases"),
        ({"layer": "sic", "budget": 1e6, "shape": (3, 8, 8)}, "a budget chooses the bases of 'unravelled' layers"),
        ({"layer": "sic", "init": "svt"}, "unknown init 'svt': did you mean 'svd'"),
        ({"layer": "spatial_bottleneck", "init": "svd"}, "init='svd' is for sic and unravelled"),
        ({"layer": "unravelled", "budget": float("inf"), "shape": (3, 8, 8)}, "budget=inf is no number of MACs"),
        ({"layer": "unravelled", "budget": float("nan"), "shape": (3, 8, 8)}, "budget=nan is no number of MACs"),
        ({"layer": "sic", "kernel_size": 5}, "kernel_size=5 cannot be chosen: a layer has its convolution's"),
        ({"layer": "sic", "exclude": ["frist"]}, "no convolution is named 'frist': did you mean 'first'"),
        ({"layer": "sic", "include": ["layer*"]}, r"no convolution is named 'layer\*'"),
    ],
)
def test_mistakes_are_said_and_change_nothing(arguments: dict, message: str) -> None:
    model = Net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UserError, match=message):
        convert(model, **arguments)
    assert model.state_dict().keys() == before.keys()
    with pytest.raises(UserError, match="itself a convolution"):
        convert(nn.Conv2d(3, 4, 3), "sic")


@pytest.mark.parametrize("bases", [1, 3, 9])
def test_a_budget_gives_as_many_bases_as_it_allows(bases: int) -> None:
    shape, chosen = (3, 12, 12), {"exclude": ["first"]}
    exact = convert(Net(), "unravelled", bases=bases, shape=shape, **chosen).after.macs
    for budget, expected in ((exact, bases), (exact * 10, 9), (exact - 1, bases - 1)):
        model = Net()
        if expected:
            report = convert(model, "unravelled", budget=budget, shape=shape, init="svd", **chosen)
            assert model.twice.bases == model.wide.bases == expected and report.after.macs <= budget
        else:
            with pytest.raises(UserError, match=f"with one basis a channel the network costs {exact:,} MACs"):
                convert(model, "unravelled", budget=budget, shape=shape, **chosen)
            assert type(model.twice) is nn.Conv2d


def test_a_pruned_network_has_a_budget_too() -> None:
    model = prune.ln_structured(nn.Conv2d(8, 8, 3), "weight", 0.5, n=2, dim=0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), model)
    report = convert(network, "unravelled", budget=1e6, shape=(3, 12, 12))
    assert [layer.name for layer in report.replaced] == ["0"] and network[0].bases == 9


def test_new_layers_have_the_backend_that_was_chosen() -> None:
    network = set_backend(nn.Sequential(nn.Conv2d(3, 8, 3)), "reference")
    convert(network, "sic")
    assert {module.layer_backend for module in network[0].modules()} == {"reference"}


def test_without_a_shape_the_report_has_parameters_only() -> None:
    report = convert(nn.Sequential(nn.Conv2d(8, 8, 3)), "sic")
    assert (report.before, report.after) == (Cost(params=8 * 8 * 9 + 8), Cost(params=8 * 9 + 64 + 8))
    assert str(report).splitlines()[-1] == "1 of 1 replaced; 584 -> 144 parameters"


def test_the_example_loses_and_regains_its_accuracy_at_a_fraction_of_the_cost() -> None:
    done = command("scripts/convert_digits.py", "--epochs", 3)
    assert done.returncode == 0, done.stderr
    told = re.findall(r"^(\S+) +top-1 +([\d.]+)% +([\d.]+) M MACs", done.stdout, re.MULTILINE)
    (_, standard, full), (_, converted, less), (_, tuned, same) = told
    assert [row[0] for row in told] == ["standard", "converted", "fine-tuned"]
    assert float(converted) < float(tuned) and float(tuned) > 90 and float(standard) > 90
    assert float(less) == float(same) < float(full) / 5
