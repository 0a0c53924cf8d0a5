"""What layers and models cost, counted once more by other means, and against the known figures of the paper."""

from __future__ import annotations

import csv
import functools
import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import reference
from conftest import ROOT, command
from efficientconv import Cost, count, create_model, list_models
from efficientconv.complexity import NetworkCost
from efficientconv.errors import UserError
from efficientconv.layers import LAYERS, SICConv2d, SpatialBottleneckConv2d, TopologicalConv2d, Topology, build_layer
from efficientconv.models import image_size_of, model_config
from efficientconv.results.complexity_table import IMPOSSIBLE
from reference import CASES, SIZED_CASES

IMAGE_SIZES = {"imagenet": None, "cifar": 32}
NUM_CLASSES = {"imagenet": 1000, "cifar": 10}
MODELS = [pair for pair in itertools.product(list_models(), IMAGE_SIZES) if pair not in IMPOSSIBLE]
EACH_CASE = [(name, *case) for name in LAYERS.names() for case in CASES[name]]
EACH_CASE_ON_MAPS = [(*case, *maps) for case in EACH_CASE for maps in ((6, 6), (5, 7), (1, 1))]
EACH_CASE_ON_MAPS += [(*case, *maps) for case in SIZED_CASES for maps in ((6, 6), (5, 7))]


def rows_of(path: str) -> list[dict[str, str]]:
    with (ROOT / "results" / path).open(newline="") as file:
        return list(csv.DictReader(file))


def figures(unit: str) -> list[dict[str, str]]:
    """The paper's MACs, confirmed by arithmetic, in millions, or fractions of model A."""
    return [
        {"model": row["row"], "quantity": row["column"], **row}
        for row in rows_of("paper/figures.csv")
        if row["unit"] == unit and row["row"] != "recipe" and row["column"] != "quoted_macs"
    ]


# ---------------------------------------------------------------- counting once more


@functools.cache
def connections(topology: Topology) -> int:
    """Pairs of an output and an input channel that are connected, wrapping around."""
    return sum(len(set(reference.neighbours(output, topology))) for output in range(topology.channels))


def recount(model: nn.Module, shape: tuple[int, int, int]) -> Cost:
    """MACs as half of torch's FLOPs, parameters as the sum of numel, activations as what the leaves put out.

    torch sees a topological layer as a dense one; its MACs are corrected by the connections that it has not.
    """
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, TopologicalConv2d)
    absent, elements = 0, 0

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal absent, elements
        elements += output.numel()
        if isinstance(module, TopologicalConv2d):
            missing = module.in_channels * module.out_channels - connections(module.topology)
            absent += missing * module.weight[0, 0].numel() * output.shape[-2] * output.shape[-1]

    hooks = [module.register_forward_hook(record) for module in model.modules() if isinstance(module, kinds)]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *shape, device=next(model.parameters()).device))
    for hook in hooks:
        hook.remove()
    macs = Fraction(counter.get_total_flops(), 2) - absent
    return Cost(int(macs), sum(p.numel() for p in model.parameters()), elements)


@functools.cache
def network(model: str, layout: str) -> tuple[nn.Module, int]:
    """At full size on torch's meta device, which both counters take: shapes without numbers."""
    size = image_size_of(model_config(model).model_copy(update={"layout": layout}), IMAGE_SIZES[layout])
    with torch.device("meta"):
        return create_model(model, NUM_CLASSES[layout], layout=layout, image_size=size), size


@functools.cache
def counted(model: str, layout: str) -> NetworkCost:
    built, size = network(model, layout)
    return count(built, (3, size, size))


@functools.cache
def recounted(model: str, layout: str) -> Cost:
    built, size = network(model, layout)
    return recount(built, (3, size, size))


def bare(cost: Cost) -> Cost:
    return Cost(cost.macs, cost.params, cost.activations)


@pytest.mark.parametrize("name, n, m, args, h, w", EACH_CASE_ON_MAPS, ids=str)
def test_formula_of_each_layer_equals_the_recount(name: str, n: int, m: int, args: dict, h: int, w: int) -> None:
    conv = LAYERS.get(name)(n, m, **args)
    expected = recount(conv, (n, h, w))
    assert conv.cost(h, w) == expected
    assert bare(count(conv, (n, h, w))) == expected, "count() of a bare layer"
    norm = Cost(params=2 * m)
    assert bare(count(build_layer(name, n, m, **args), (n, h, w))) == expected + norm


@pytest.mark.parametrize("model, layout", MODELS)
def test_cost_of_each_model_equals_the_recount(model: str, layout: str) -> None:
    assert bare(counted(model, layout)) == recounted(model, layout)
    assert bare(counted(model, layout)) == sum(counted(model, layout).layers.values(), Cost())


@pytest.mark.parametrize("model", ["c", "i", "j", "n", "resnet50"])
def test_parameters_equal_those_of_a_model_in_memory(model: str) -> None:
    real = create_model(model, num_classes=1000, layout="imagenet")
    assert counted(model, "imagenet").params == sum(p.numel() for p in real.parameters())


@pytest.mark.parametrize("topology", [reference.LINE, reference.PLANE, reference.SOLID], ids=str)
@pytest.mark.parametrize("k", [1, 3])
def test_topological_macs_are_the_nonzeros_of_the_jacobian(topology: Topology, k: int) -> None:
    """The centre of a k x k map sees all of it: each derivative of it that is not zero is one multiplication."""
    n = topology.channels
    conv = TopologicalConv2d(n, n, k, topology=topology)
    jacobian = torch.autograd.functional.jacobian(lambda x: conv(x)[0, :, k // 2, k // 2], torch.randn(1, n, k, k))
    assert conv.cost(9, 5).macs == int(jacobian.count_nonzero()) * 9 * 5
    assert conv.cost(9, 5).macs < n * n * k * k * 9 * 5


# ---------------------------------------------------------------- the paper's figures


def decimals(text: str) -> int:
    return len(text.partition(".")[2])


@pytest.mark.parametrize("row", figures("million"), ids=lambda row: f"{row['model']}-{row['quantity']}")
def test_macs_equal_the_known_ones_to_the_last_digit(row: dict[str, str]) -> None:
    cost = counted(row["model"], "imagenet")
    transitions = sum((cost.within(f"stages.stage{s}.transition") for s in (2, 3, 4)), Cost())
    stem, head = cost.within("stem"), cost.within("head")
    ours = {
        "total_macs": cost,
        "stem_macs": stem,
        "transition_macs": transitions,
        "head_macs": head,
        "common_macs": stem + transitions + head,
    }[row["quantity"]]
    assert round(ours.macs / 1e6, decimals(row["value"])) == float(row["value"])


def test_the_common_part_is_common_to_models_a_to_m() -> None:
    stages = [f"stages.stage{s}.layers" for s in (2, 3, 4)]
    common = set()
    for model in "abcdefghijklm":
        cost = counted(model, "imagenet")
        common.add(cost.macs - sum(cost.within(stage).macs for stage in stages))
    assert len(common) == 1


def projection_macs(conv: nn.Module, side: int) -> Fraction:
    """MACs that mix channels: the layer's own cost without its depthwise filters, on a side x side map.

    The fractions of the paper leave out the grid that a spatial bottleneck pads to. A map smaller by that padding gives
    the unpadded grid of (side / k)^2 cells, of which the paper speaks.
    """
    k, padding = (conv.kernel_size[0], conv.padding[0]) if isinstance(conv, SpatialBottleneckConv2d) else (1, 0)
    places = Fraction(side, k) ** 2
    convolutions = [m for m in conv.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    depthwise = sum(m.weight.numel() for m in convolutions if m.groups == m.in_channels) * places
    return conv.cost(side - padding, side - padding).macs - depthwise


def stage_projections(model: str) -> Fraction:
    sides = {"stage2": 36, "stage3": 18, "stage4": 6}
    built, _ = network(model, "imagenet")
    return sum(projection_macs(layer.conv, sides[name]) for name, stage in built.stages.items() for layer in stage.layers)


@pytest.mark.parametrize("row", figures("fraction"), ids=lambda row: row["model"])
def test_projections_are_exactly_the_papers_fraction_of_model_a(row: dict[str, str]) -> None:
    assert stage_projections(row["model"]) / stage_projections("a") == Fraction(row["value"])


def test_stage_sides_are_those_of_the_layout() -> None:
    """Cost of a layer in each stage of A, whose n is known, gives the map that it ran on: 36, 18 and 6."""
    cost = counted("a", "imagenet")
    for name, n, side in (("stage2", 128, 36), ("stage3", 256, 18), ("stage4", 512, 6)):
        assert cost.within(f"stages.{name}.layers").macs == 2 * n * n * 9 * side**2


# Of the abstracts' ratios, what this description of the models gives with the quoted MACs of the other network.
GIVEN = {
    ("l", "42"): True,
    ("m", "7.32"): True,
    ("n", "4.5"): True,
    ("n", "4.38"): False,
    ("o", "6.5"): False,
    ("o", "5.85"): False,
    ("e", "3.4"): False,
    ("m", "3.4"): False,
}


@pytest.mark.parametrize("row", rows_of("paper/claims.csv"), ids=lambda r: f"{r['model']}-{r['claimed_ratio']}")
def test_claims_of_the_abstracts_with_quoted_macs(row: dict[str, str]) -> None:
    ratio = int(row["quoted_macs_million"]) * 1e6 / counted(row["model"], "imagenet").macs
    agrees = round(ratio, decimals(row["claimed_ratio"])) == float(row["claimed_ratio"])
    assert agrees == GIVEN[row["model"], row["claimed_ratio"]]


def test_ratio_of_model_o_is_5_86() -> None:
    assert round(7600e6 / counted("o", "imagenet").macs, 2) == 5.86


# ---------------------------------------------------------------- count()


class Twice(nn.Module):
    """One convolution used twice, beside a batch norm and a layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.conv(x)))


def test_a_module_used_twice_multiplies_twice_and_has_its_parameters_once() -> None:
    cost = count(Twice(), (4, 5, 6))
    assert cost.layers == {
        "conv": Cost(2 * 4 * 4 * 9 * 30, 4 * 4 * 9 + 4, 2 * 4 * 30),
        "norm": Cost(0, 8, 0),
    }
    assert bare(cost) == Cost(2 * 4 * 4 * 9 * 30, 4 * 4 * 9 + 4 + 8, 2 * 4 * 30)


def test_layers_are_named_as_in_the_module_tree_in_order_of_execution() -> None:
    built, _ = network("c", "cifar")
    names = list(counted("c", "cifar").layers)
    tree = [name for name, _ in built.named_modules()]
    assert names == sorted(names, key=tree.index) and set(names) <= set(tree)
    assert names[:2] == ["stem.conv", "stem.bn"] and names[-1] == "head.classifier"
    assert isinstance(built.get_submodule("stages.stage2.layers.0.conv"), SICConv2d)
    assert "stages.stage2.layers.0.conv" in names and "stages.stage2.layers.0.conv.depthwise" not in names


def test_each_layer_costs_what_torch_counts_in_it() -> None:
    built, size = network("j", "cifar")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built.eval()(torch.zeros(1, 3, size, size, device="meta"))
    by_torch = {name: sum(flops.values()) for name, flops in counter.get_flop_counts().items()}
    for name, cost in counted("j", "cifar").layers.items():
        assert 2 * cost.macs == by_torch.get(f"Network.{name}", 0), name


def test_within_sums_whole_name_parts() -> None:
    cost = NetworkCost(layers={"a.b": Cost(1, 2, 3), "a.b.c": Cost(10, 20, 30), "a.bc": Cost(100, 200, 300)})
    assert cost.within("a.b") == cost.within("a.b.") == Cost(11, 22, 33)
    assert cost.within("a") == Cost(111, 222, 333) and cost.within("b") == Cost()


def state(model: nn.Module) -> tuple:
    modules = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    pointers = [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())]
    return modules, pointers, [(p.grad, p.requires_grad) for p in model.parameters()]


@pytest.mark.parametrize("fails", [False, True])
def test_count_leaves_the_model_as_it_was(fails: bool) -> None:
    model = create_model("i", num_classes=10, layout="cifar", width=0.125)
    model.other_name, layers = model.head, model.stages["stage2"].layers
    layers[0].bn.weight = layers[1].bn.weight
    model.train()
    model.stages["stage3"].eval()
    before, tensors = state(model), {name: t.clone() for name, t in model.state_dict().items()}
    if fails:
        with pytest.raises(RuntimeError):
            count(model, (4, 32, 32))
    else:
        assert count(model, (3, 32, 32)).macs > 0
    assert state(model) == before
    torch.testing.assert_close(model.state_dict(), tensors, rtol=0, atol=0)


def test_count_is_the_same_in_training_and_in_evaluation() -> None:
    model = create_model("l", num_classes=10, layout="cifar", width=0.125)
    assert count(model.train(), (3, 32, 32)) == count(model.eval(), (3, 32, 32))


# ---------------------------------------------------------------- networks of others


NETWORKS = ["convnext_tiny", "swin_t", "vit_b_32", "inception_v3", "mobilenet_v2", "regnet_x_400mf"]


@pytest.mark.parametrize("name", NETWORKS)
def test_cost_of_other_peoples_networks_is_what_torch_counts_and_what_their_makers_publish(name: str) -> None:
    options = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # RegNet reads tensors while it is made
        model = torchvision.models.get_model(name, **options).to("meta")
    side = 299 if name == "inception_v3" else 224
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # torch's counter has no formula for its own fused attention
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.empty(1, 3, side, side, device="meta"))
    torch.backends.mha.set_fastpath_enabled(fused)
    cost, published = count(model, (3, side, side)), torchvision.models.get_model_weights(name).DEFAULT.meta
    assert 2 * cost.macs == counter.get_total_flops()
    assert round(cost.macs / 1e9, 3) == published["_ops"]
    assert cost.params == published["num_params"] == sum(p.numel() for p in model.parameters())
    assert bare(cost) == sum(cost.layers.values(), Cost())
    assert torch.backends.mha.get_fastpath_enabled() == fused


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, num_heads=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(8, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x)[0]


class Shared(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


@pytest.mark.parametrize(
    "module, shape, macs, activations",
    [
        (nn.Conv1d(4, 6, 3, stride=2), (4, 11), 4 * 6 * 3 * 5, 6 * 5),
        (nn.Conv3d(4, 6, (1, 2, 3), groups=2), (4, 5, 6, 7), 2 * 6 * 6 * 5 * 5 * 5, 6 * 5 * 5 * 5),
        (nn.ConvTranspose1d(4, 6, 3, stride=2), (4, 5), 4 * 6 * 3 * 5, 6 * 11),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 5, 5), 4 * 3 * 9 * 25, 6 * 49),
        (nn.ConvTranspose3d(4, 6, 2), (4, 3, 3, 3), 4 * 6 * 8 * 27, 6 * 64),
        (nn.Linear(8, 3), (7, 7, 8), 49 * 8 * 3, 49 * 3),
        (Attention(), (5, 8), 5 * 8 * 32 + 2 * 5 * 5 * 8, 5 * 24 + 2 * 25 + 5 * 8 + 5 * 8),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8), 5 * 8 * 64 + 2 * 5 * 5 * 8, 370),
        (Recurrent(), (5, 8), 5 * 4 * 4 * (8 + 4), 5 * 16 * 2),
        (Shared(), (8,), 2 * 64, 16),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_multiplies_is_counted(module: nn.Module, shape: tuple[int, ...], macs: int, activations: int) -> None:
    cost = count(module, shape)
    assert bare(cost) == Cost(macs, sum(p.numel() for p in module.parameters()), activations)
    assert cost == count(module, shape, kind="executed")


def test_what_computes_a_weight_is_executed_but_no_part_of_the_definition() -> None:
    module = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 3))
    assert bare(count(module, (8,))) == Cost(8 * 3, 8 * 3 + 3, 3)
    assert bare(count(module, (8,), kind="executed")) == Cost(8 * 3 + 8 * 3 + 3, 8 * 3 + 3, 3 + 3 + 1)


def test_a_replaced_part_of_a_layer_is_counted_as_what_it_is() -> None:
    layer = SICConv2d(12, 12, 3, topology=reference.PLANE)
    filters = 12 * 9
    layer.projection = nn.Conv2d(12, 12, 3, padding=1, bias=False)
    expected = Cost((filters + 12 * 12 * 9) * 30, filters + 12 * 12 * 9, 2 * 12 * 30)
    assert count(nn.Sequential(layer), (12, 5, 6)).layers == {"0": expected}
    layer.projection = TopologicalConv2d(12, 12, 3, topology=reference.PLANE)
    fan = 12 * reference.PLANE.fan * 9
    assert bare(count(layer, (12, 5, 6))) == Cost((filters + fan) * 30, filters + fan, 2 * 12 * 30)
    layer.forward = layer.depthwise.forward
    assert count(layer, (12, 5, 6)).macs == filters * 30
    layer = TopologicalConv2d(12, 12, 1, topology=reference.PLANE)
    layer.forward = torch.relu
    assert count(layer, (12, 5, 6)).macs == 0


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
@pytest.mark.parametrize("make", [SICConv2d, TopologicalConv2d])
def test_a_parametrized_weight_leaves_the_cost_as_defined(make: type[nn.Module], norm: Callable) -> None:
    layer = make(12, 12, 3, topology=reference.PLANE)
    before = count(layer, (12, 5, 6))
    for part in [m for m in layer.modules() if "weight" in m._parameters]:
        norm(part)
    after = count(layer, (12, 5, 6))
    assert (after.macs, after.activations) == (before.macs, before.activations)
    assert after.params == sum(p.numel() for p in layer.parameters())


class Frames(nn.Sequential):
    """Runs on each of three images that lie behind one another."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unflatten(1, (3, -1)).flatten(0, 1))


@pytest.mark.parametrize("make", [SICConv2d, TopologicalConv2d])
def test_a_layer_that_runs_on_several_images_costs_as_much_for_each(make: type[nn.Module]) -> None:
    layer = make(12, 12, 3, topology=reference.PLANE)
    one, three = count(layer, (12, 5, 6)), count(Frames(layer), (36, 5, 6))
    assert bare(three) == Cost(3 * one.macs, one.params, 3 * one.activations)


class Distances(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cdist(x, x)


class ByValue(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_what_nobody_can_count_is_refused_and_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Distances())
    with pytest.raises(UserError, match=r"what aten\.\w*cdist\w* multiplies is unknown \(in 1\); give torch a formula"):
        count(model, (5, 4))
    assert state(model)[0] == state(nn.Sequential(nn.Linear(4, 4), Distances()))[0], "hooks are gone"
    for shape in (4, (5, 4.0), torch.zeros(5, 4)):
        with pytest.raises(UserError, match="count: the shape must be whole numbers"):
            count(model[0], shape)
    with pytest.raises(RuntimeError, match=r"not run on an input of shape \(5, 3\) on .*; an image has \(channels, height"):
        count(model[0], (5, 3))
    with pytest.raises(RuntimeError, match=r"no values to decide by: Tensor.item\(\) cannot be called on meta"):
        count(ByValue(), (3,))
    with pytest.raises(UserError, match="unknown kind 'maths': did you mean 'math'"):
        count(model, (5, 4), kind="maths")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_cost_is_the_same_in_every_type_of_numbers(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    cost = count(model, (3, 4, 4))
    assert count(model.to(dtype), (3, 4, 4)) == cost


@pytest.mark.parametrize("model", ["f", "i"])
def test_executed_cost_has_the_dense_layer_that_the_reference_computes(model: str) -> None:
    built, size = network(model, "cifar")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built.eval()(torch.zeros(1, 3, size, size, device="meta"))
    executed, defined = count(built, (3, size, size), kind="executed"), counted(model, "cifar")
    assert 2 * executed.macs == counter.get_total_flops() > 2 * defined.macs
    assert list(executed.layers) == list(defined.layers)
    assert (executed.params, executed.activations) == (defined.params, defined.activations)


# ---------------------------------------------------------------- scripts/complexity.py


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("results") / "new"
    done = command("scripts/complexity.py", "--output-dir", folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.parametrize("name", ["complexity.csv", "claims.csv"])
def test_committed_tables_are_what_the_script_writes(written: tuple[Path, str], name: str) -> None:
    assert (ROOT / "results" / name).read_text() == (written[0] / name).read_text()


def test_complexity_csv_equals_the_recount() -> None:
    rows = rows_of("complexity.csv")
    assert sorted((row["model"], row["layout"]) for row in rows) == sorted(MODELS)
    for row in rows:
        cost = recounted(row["model"], row["layout"])
        assert [int(row[c]) for c in ("macs", "params", "activations")] == [cost.macs, cost.params, cost.activations]
        assert int(row["image_size"]) == network(row["model"], row["layout"])[1]


def test_complexity_csv_has_the_stages_against_model_a_beside_the_ideal() -> None:
    ideals = {row["model"]: (row["value"], row["source"]) for row in figures("fraction")}
    rows = rows_of("complexity.csv")
    stages = {(row["model"], row["layout"]): row["stage_macs"] for row in rows}
    for row in rows:
        built, size = network(row["model"], row["layout"])
        assert (row["ideal_fraction"], row["ideal_source"]) == ideals.get(row["model"], ("", ""))
        if model_config(row["model"]).trunk == "plain":
            around = sum(c.macs for n, c in counted(row["model"], row["layout"]).layers.items() if ".layers." not in n)
            assert int(row["stage_macs"]) == recounted(row["model"], row["layout"]).macs - around
            share = int(row["stage_macs"]) / int(stages["a", row["layout"]])
            assert float(row["stage_macs_vs_a"]) == pytest.approx(share, abs=5e-5)
        else:
            assert row["stage_macs_vs_a"] == ""


def test_claims_csv_has_both_ratios_beside_the_claim() -> None:
    paper = {(r["model"], r["claimed_ratio"]): r for r in rows_of("paper/claims.csv")}
    rows = rows_of("claims.csv")
    assert {(r["model"], r["claimed_ratio"]) for r in rows} == set(paper)
    for row in rows:
        claim = paper[row["model"], row["claimed_ratio"]]
        ours = recounted(row["model"], "imagenet").macs
        assert int(row["macs"]) == ours and int(row["quoted_macs"]) == int(claim["quoted_macs_million"]) * 10**6
        assert row["confirmed"] == str(GIVEN[row["model"], row["claimed_ratio"]])
        for copied in ("against", "claim_source", "quoted_source"):
            assert row[copied] == claim[copied]
        assert int(row["counted_macs"]) == recounted(row["against"], "imagenet").macs
        for other, ratio in (("quoted_macs", "ratio_quoted"), ("counted_macs", "ratio_counted")):
            assert float(row[ratio]) == round(int(row[other]) / ours, 2)


def test_printed_tables_explain_themselves(written: tuple[Path, str]) -> None:
    out = written[1]
    assert out.count("1 MAC = one multiply-accumulate = 2 FLOPs") == 1
    lines = {tuple(line.split()[:3]) for line in out.splitlines()}
    assert {("c", "221", "375.95"), ("vgg16", "224", "15,470.26"), ("a", "32", "245.06")} <= lines
    assert {("l", "vgg16", "42"), ("o", "resnet101", "5.85")} <= lines
    assert "unchecked" in out and str(written[0] / "complexity.csv") in out


def test_layers_of_one_model_are_printed_and_nothing_written(tmp_path: Path) -> None:
    done = command("scripts/complexity.py", "--layers", "c", "--layout", "cifar", "--output-dir", tmp_path)
    assert done.returncode == 0 and not list(tmp_path.iterdir())
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    for name, cost in [*counted("c", "cifar").layers.items(), ("total", counted("c", "cifar"))]:
        assert lines[name] == [f"{cost.macs:,}", f"{cost.params:,}", f"{cost.activations:,}"]


def test_mistakes_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = command("scripts/complexity.py", "--layers", "resnet51", "--output-dir", tmp_path)
    assert done.returncode == 2 and done.stdout == "" and not list(tmp_path.iterdir())
    assert done.stderr.startswith("error: unknown model 'resnet51': did you mean 'resnet50'?")
    assert done.stderr.count("\n") == 1
    done = command("scripts/complexity.py", "--layers", "", "--output-dir", tmp_path)  # of a shell's empty variable
    assert done.returncode == 2 and "unknown model ''" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize("model, layout", sorted(IMPOSSIBLE))
def test_rows_left_out_are_those_that_cannot_be(model: str, layout: str) -> None:
    with pytest.raises(UserError, match="too small"):
        create_model(model, num_classes=10, layout=layout, image_size=IMAGE_SIZES[layout])
