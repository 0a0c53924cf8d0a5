"""Every model in every layout: it builds, runs and learns everywhere; what it does with sizes, widths and mistakes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from efficientconv import count, create_model, list_models
from efficientconv.config import ModelConfig
from efficientconv.errors import UserError
from efficientconv.layers import LAYERS, SpatialBottleneckConv2d, TopologicalConv2d, Topology, build_layer
from efficientconv.models import FeatureNetwork, image_size_of, layout_name, model_config, register_model
from efficientconv.models.trained import start_from
from efficientconv.models.zoo import REGISTERED, layout_config
from reference import CASES

OURS = [name for name in list_models() if model_config(name).trunk != "torchvision"]
OTHERS = [name for name in list_models() if model_config(name).trunk == "torchvision"]
# images on which each trunk's last feature map has 2 x 2 pixels or more, so that batch norm has something to work with
SMALL = {
    "plain": {"imagenet": 77, "cifar": 16},
    "resnet": {"imagenet": 64, "cifar": 16},
    "torchvision": {"imagenet": 64, "cifar": 32},
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def small(name: str, layout: str) -> tuple[nn.Module, int]:
    """Width 1/8 where there is one, 10 classes; the model and its image size."""
    size = 63 if name == "alexnet" else SMALL[model_config(name).trunk][layout]  # alexnet's least
    width = 0.125 if name in OURS else None
    return create_model(name, 10, layout=layout, width=width, image_size=size), size


def assert_all_learn(module: nn.Module, output: torch.Tensor) -> None:
    (output * torch.randn_like(output)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"{name} takes no part"
        assert parameter.grad.isfinite().all() and parameter.grad.any(), f"{name} has no gradient"


# ---------------------------------------------------------------- forward and backward


@pytest.mark.parametrize("layout", ["imagenet", "cifar"])
@pytest.mark.parametrize("model", list_models())
def test_every_model_runs_and_every_parameter_gets_a_gradient(model: str, layout: str) -> None:
    network, size = small(model, layout)
    logits = network(torch.randn(4, 3, size, size))
    assert logits.shape == (4, 10) and logits.dtype == torch.float32
    assert_all_learn(network, logits)


@pytest.mark.parametrize("name", LAYERS.names())
def test_every_layer_keeps_the_map_and_every_parameter_gets_a_gradient(name: str) -> None:
    for n, m, args in CASES[name]:
        layer = build_layer(name, n, m, **args)
        output = layer(torch.randn(4, n, 7, 6))
        assert output.shape == (4, m, 7, 6)
        assert_all_learn(layer, output)


@pytest.mark.parametrize("name", OURS)
def test_evaluation_takes_images_one_by_one(name: str) -> None:
    network, size = small(name, "cifar")
    images = torch.randn(3, 3, size, size)
    network(images)
    network.eval()
    one_by_one = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), one_by_one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OURS)
def test_signals_neither_vanish_nor_explode_at_the_start(name: str) -> None:
    network, size = small(name, "cifar")
    logits = network(torch.randn(16, 3, size, size))
    assert 1e-3 < logits.std() < 1e3


# ---------------------------------------------------------------- the public signature, and full size


def test_signature_of_the_python_interface() -> None:
    with torch.device("meta"):
        model = create_model("c", num_classes=1000, layout="imagenet", width=1.0)
        assert model.eval()(torch.empty(2, 3, 221, 221)).shape == (2, 1000)
    assert isinstance(model, nn.Module) and not hasattr(model, "conv1")


@pytest.mark.parametrize("name", OURS)
def test_stages_at_full_size_are_the_papers(name: str) -> None:
    """Channels and side of the map that leaves each stage, and the maps around them."""
    plain = model_config(name).trunk == "plain"
    stages = [(128, 36), (256, 18), (512, 6)] if plain else [(64, 56), (128, 28), (256, 14), (512, 7)]
    size = 221 if plain else 224
    with torch.device("meta"):
        model = create_model(name, num_classes=1000, layout="imagenet").eval()
        x = model.stem(torch.empty(1, 3, size, size))
        assert x.shape == (1, 64, *([108] * 2 if plain else [112] * 2))
        for stage, (channels, side) in zip(model.stages.values(), stages, strict=True):
            x = stage(x)
            assert x.shape == (1, channels, side, side)
        assert model.head.conv(x).shape[1] == model.head.hidden.in_features == 1024
        assert model.head.hidden.out_features == model.head.classifier.in_features == 2048
        assert model.head.dropout.p == 0.2 and model.head(x).shape == (1, 1000)


@pytest.mark.parametrize("name", OURS)
def test_stages_in_the_cifar_layout_are_16_8_and_4_pixels(name: str) -> None:
    model = create_model(name, num_classes=10, layout="cifar", width=0.125).eval()
    x = model.stem(torch.randn(1, 3, 32, 32))
    sides = [x.shape[-1]]
    for stage in model.stages.values():
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == ([32, 16, 8, 4] if model_config(name).trunk == "plain" else [32, 32, 16, 8, 4])


LAYERS_A_STAGE = {
    "a": ["standard"] * 2,
    "b": ["unravelled"] * 2,
    "c": ["sic"] * 4,
    "d": ["sic"] * 4,
    "e": ["sic"] * 6,
    "f": ["topological"] * 4,
    "g": ["topological"] * 4,
    "h": ["grouped"] * 4,
    "i": ["sic"] * 8,
    "j": ["sic", "spatial_bottleneck", "spatial_bottleneck"] * 2,
    "k": ["spatial_bottleneck"] * 8,
    "l": ["channel_bottleneck"] * 4,
    "m": ["channel_bottleneck"] * 6,
    "n": ["channel_bottleneck"] * 12,
    "o": ["channel_bottleneck"] * 20,
    "c_noresidual": ["sic"] * 4,
    "b_2bases": ["unravelled"] * 2,
    "k_copied": ["spatial_bottleneck"] * 8,
}


@pytest.mark.parametrize("name", OURS)
def test_stages_hold_the_papers_layers(name: str) -> None:
    model = create_model(name, num_classes=10, layout="cifar", width=0.125)
    for stage in model.stages.values():
        assert [type(layer.conv) for layer in stage.layers] == [LAYERS.get(kind) for kind in LAYERS_A_STAGE[name]]
        assert all(layer.residual == (name != "c_noresidual") for layer in stage.layers)
        grids = [layer.conv.padding for layer in stage.layers if isinstance(layer.conv, SpatialBottleneckConv2d)]
        assert grids == [(0, 0), (1, 1)] * (len(grids) // 2)
        convolutions = [m for m in stage.layers.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
        sizes = {conv.kernel_size[0] for conv in convolutions} - {1}  # projections aside
        assert sizes == {"d": {5}, "j": {2, 3}, "k": {2}, "k_copied": {2}, "f": set(), "g": set()}.get(name, {3})


# ---------------------------------------------------------------- layouts and widths


@pytest.mark.parametrize("size, layout", [(None, "imagenet"), (28, "cifar"), (64, "cifar"), (65, "imagenet")])
def test_auto_takes_the_layout_that_fits_the_images(size: int | None, layout: str) -> None:
    assert layout_name(model_config("c"), size) == layout
    built, told = (create_model("c", 10, layout=choice, width=0.125, image_size=size) for choice in ("auto", layout))
    assert str(built) == str(told)


def test_layout_named_by_the_user_wins() -> None:
    network = create_model("c", 10, layout="imagenet", width=0.125, image_size=64)
    assert network.stem.conv.kernel_size == (7, 7)
    assert create_model("c", 10, layout="cifar", width=0.125, image_size=96).stem.conv.kernel_size == (3, 3)


@pytest.mark.parametrize("name, size", [("c", 221), ("n", 224), ("o", 224), ("resnet18", 224)])
def test_image_size_is_the_data_s_or_the_layout_s_own(name: str, size: int) -> None:
    assert image_size_of(model_config(name), None) == size
    assert image_size_of(model_config(name), 40) == 40


@pytest.mark.parametrize("width", [1.5, 0.75, 0.5, 0.125])
@pytest.mark.parametrize("name", ["b", "g", "i", "j", "n"])
def test_width_multiplies_every_channel_count(name: str, width: float) -> None:
    full, scaled = (create_model(name, 10, layout="cifar", width=w) for w in (1.0, width))
    norms = [[m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d)] for model in (full, scaled)]
    assert norms[1] == [n * width for n in norms[0]]
    assert scaled.head.hidden.out_features == 2048 * width and scaled.head.classifier.out_features == 10


@pytest.mark.parametrize("width", [0.5, 0.25, 0.125])
@pytest.mark.parametrize("name", ["f", "g", "i"])
def test_topologies_shrink_with_the_width(name: str, width: float) -> None:
    model = create_model(name, 10, layout="cifar", width=width)
    layers = [m for m in model.modules() if isinstance(m, TopologicalConv2d)]
    assert layers
    for layer in layers:
        n = layer.in_channels
        blocks = [stage.blocks[0].args for stage in model_config(name).stages.values()]
        paper = next(t for t in (Topology(**a["topology"]) for a in blocks) if t.channels == n / width)
        assert layer.topology.fan / n == pytest.approx(paper.fan / paper.channels, rel=0 if name in "fi" else 0.25)


# ---------------------------------------------------------------- mistakes


def refusal(*args: object, **kwargs: object) -> str:
    with pytest.raises(UserError) as error:
        create_model(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "name, layout, size, least", [("c", "imagenet", 40, 41), ("o", "imagenet", 16, 29), ("n", "cifar", 7, 8)]
)
def test_images_too_small_are_refused_with_the_least_size(name: str, layout: str, size: int, least: int) -> None:
    message = refusal(name, 10, layout=layout, width=0.125, image_size=size)
    for part in (f"image_size={size}", f"layout={layout}", f"model '{name}'", f"{least} x {least}", "choose"):
        assert part in message
    network = create_model(name, 10, layout=layout, width=0.125, image_size=least).eval()
    assert network(torch.randn(1, 3, least, least)).shape == (1, 10)
    with pytest.raises(RuntimeError):
        network(torch.randn(1, 3, size, size))


def test_images_too_small_for_torchvision_are_refused() -> None:
    message = refusal("alexnet", 10, image_size=32)
    assert "image_size=32" in message and "'alexnet'" in message and "choose a larger data.image_size" in message


def test_unknown_model_names_the_nearest() -> None:
    assert "unknown model 'resnet20': did you mean 'resnet" in refusal("resnet20", 10)
    assert "unknown model 'C': did you mean 'c'?" in refusal("C", 10)
    assert "unknown model 'c_noresidul': did you mean 'c_noresidual'?" in refusal("c_noresidul", 10)
    assert "unknown model '../layout/plain_cifar'" in refusal("../layout/plain_cifar", 10)
    assert "unknown model 'ccc" in refusal("c" * 300, 10)
    message = refusal("zzz", 10)
    assert all(name in message for name in list_models())


@pytest.mark.parametrize("name", OTHERS)
def test_width_is_for_the_papers_models(name: str) -> None:
    message = refusal(name, 10, width=0.5)
    assert "width=0.5" in message and f"'{name}'" in message


@pytest.mark.parametrize("name", ["c", "resnet18"])
def test_layout_and_width_out_of_range_are_refused(name: str) -> None:
    assert "'tiny'" in refusal(name, 10, layout="tiny") and "cifar" in refusal(name, 10, layout="tiny")
    assert "model.width" in refusal(name, 10, width=0) and "got -1" in refusal(name, 10, width=-1)


def test_stages_other_than_the_layouts_are_refused() -> None:
    config = model_config("c").model_dump()
    config["stages"]["stage5"] = config["stages"].pop("stage4")
    message = refusal(ModelConfig(**config), 10, layout="cifar")
    assert "stage2, stage3, stage5" in message and "stage2, stage3, stage4" in message and "'plain'" in message
    config["stages"] = {}
    assert "has the stages none" in refusal(ModelConfig(**config), 10, layout="cifar")


def test_a_layers_refusal_names_the_stage() -> None:
    topology, pair = (refusal(name, 10, layout="cifar", width=0.1) for name in ("f", "l"))
    assert topology.startswith("stage2 (13 channels): topology: dims=[8, 16] connections=[4, 8] does not fit 13")
    assert pair.startswith("stage2 (13 channels): channel_bottleneck: 13 input channels cannot be halved")


def test_a_configuration_builds_what_its_name_builds() -> None:
    config = model_config("j").model_copy(update={"layout": "cifar", "width": 0.125})
    assert str(create_model(config, 10)) == str(create_model("j", 10, layout="cifar", width=0.125))


# ---------------------------------------------------------------- initialisation and the comparisons


def test_convolutions_start_with_he_s_variance_of_their_own_fan_out() -> None:
    model = create_model("j", 10, layout="cifar")
    layers = model.stages["stage4"].layers
    sic, bottleneck = layers[0].conv, layers[1].conv
    for weight, fan_out in (
        (model.stages["stage4"].transition.conv.weight, 512),
        (sic.depthwise.weight, 9),
        (sic.projection.weight, 512),
        (bottleneck.reduction.weight, 4),
        (bottleneck.expansion.weight, 4),
        (create_model("f", 10, layout="cifar").stages["stage2"].layers[0].conv.weight, 32 * 9),
    ):
        assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


PUBLISHED_PARAMS = {
    "alexnet": 61100840,
    "googlenet": 6624904,  # without the auxiliary classifiers
    "resnet101": 44549160,
    "resnet18": 11689512,
    "resnet34": 21797672,
    "resnet50": 25557032,
    "vgg16": 138357544,
}


@pytest.mark.parametrize("name", OTHERS)
def test_comparisons_have_torchvisions_parameters(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=1000, layout="imagenet")
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED_PARAMS[name]
    assert type(model).__module__.startswith("torchvision.models.") and model.training


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnets_for_small_images_have_a_3x3_stem_without_pool(name: str) -> None:
    model = create_model(name, 10, image_size=32)
    assert isinstance(model, torchvision.models.ResNet)
    stem = model.conv1(torch.randn(1, 3, 32, 32))
    assert stem.shape == (1, 64, 32, 32) and model.maxpool(stem) is stem and model.conv1.kernel_size == (3, 3)
    assert create_model(name, 10, image_size=96).conv1.kernel_size == (7, 7)


def test_model_names_have_the_papers_first_and_are_all_configured() -> None:
    assert [name for name in list_models() if len(name) == 1] == list("abcdefghijklmno")
    assert list_models() == [*OURS, *OTHERS]
    for name in list_models():
        config = model_config(name)
        assert config.name == name and config.description and config.source
        if config.trunk != "torchvision":
            assert layout_config(config, None).image_size in (221, 224)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": "three"}, "kernel_size='three' is no int"),
        ({"kernel_size": 3.0}, "kernel_size=3.0 is no int"),
        ({"in_channels": 4}, "has no argument 'in_channels'"),
        ({"topology": {"dim": [8, 16], "connections": [4, 8]}}, "unknown key 'topology.dim': did you mean 'dims'?"),
        ({"topology": {"dims": 8, "connections": [4, 8]}}, "topology.dims: input should be a valid list, got 8"),
        ({"topology": {"dims": [8.5, 16], "connections": [4, 8]}}, "topology.dims.0: input should be a valid integer"),
        ({"topology": {"dims": [8, 16], "connections": [4, 8], "anchor": "middle"}}, "topology.anchor: input should be"),
    ],
)
def test_a_layers_arguments_of_the_wrong_kind_are_one_line(change: dict, message: str) -> None:
    values = model_config("f").model_dump()
    values["stages"]["stage2"]["blocks"][0]["args"] |= change
    with pytest.raises(UserError) as error:
        create_model(ModelConfig.model_validate(values), 10, layout="cifar")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_nothing_to_see_or_to_tell_apart_is_refused() -> None:
    for wrong in ({"image_size": 0}, {"image_size": (8, 8)}, {"num_classes": -1}, {"num_classes": "10"}, {"in_chans": 1.0}):
        ((name, value),) = wrong.items()
        with pytest.raises(UserError, match=re.escape(f"{name}={value!r} is out of range; choose a whole number")):
            create_model("c", **wrong)


# ---------------------------------------------------------------- as a library's user makes them


def test_names_are_filtered_as_in_a_shell() -> None:
    assert list_models("resnet*") == ["resnet101", "resnet18", "resnet34", "resnet50"]
    assert list_models("?") == list("abcdefghijklmno") and list_models("nothing*") == []


def test_a_model_of_ones_own_is_made_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTERED, "_entries", {})

    @register_model
    def my_network(num_classes: int, in_chans: int, width: float = 1.0) -> nn.Module:
        conv = nn.Conv2d(in_chans, int(8 * width), 3)
        return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(conv.out_channels, num_classes))

    assert create_model("my_network", num_classes=5, in_chans=1, width=2.0)(torch.randn(2, 1, 8, 8)).shape == (2, 5)
    assert list_models()[-1] == "my_network"
    with pytest.raises(UserError, match="did you mean 'my_network'"):
        create_model("my_netwerk")
    with pytest.raises(ValueError, match="registered twice"):
        register_model(my_network)

    def c() -> nn.Module: ...

    with pytest.raises(ValueError, match="'c' is there already"):
        register_model(c)


@pytest.mark.parametrize("last", [lambda: nn.LazyLinear(5), nn.Identity], ids=["of unknown size", "none"])
def test_weights_start_a_network_whose_fully_connected_layer_is(last: Callable[[], nn.Module]) -> None:
    trained, fresh = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), last()) for _ in range(2))
    x = torch.randn(1, 3, 4, 4)
    y = trained(x)
    start_from(fresh, trained.state_dict(), Path("weights"))
    assert torch.equal(fresh(x), y)


@pytest.mark.parametrize("name", ["c", "n", "resnet18", "vgg16", "alexnet", "googlenet"])
def test_images_of_other_channels(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, 10, in_chans=1)
        first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
        assert first.in_channels == 1 and model.eval()(torch.empty(2, 1, 224, 224)).shape == (2, 10)
        standard = create_model(name, 10)
    shapes, others = ({k: v.shape for k, v in m.state_dict().items()} for m in (model, standard))
    assert shapes.keys() == others.keys() and sum(shapes[k] != others[k] for k in shapes) == 1


@pytest.mark.parametrize("name, layout", list(itertools.product(["c", "k", "n"], ["imagenet", "cifar"])))
def test_feature_maps_are_those_inside_the_network(name: str, layout: str) -> None:
    network, size = small(name, layout)
    network.eval()
    features = FeatureNetwork(network)
    seen = []
    for stage in network.stages.values():
        stage.register_forward_hook(lambda module, inputs, output: seen.append(output))
    x = torch.randn(2, 3, size, size)
    maps = features(x)
    assert [m.shape[1] for m in maps] == features.feature_info.channels()
    for m, reduction in zip(maps, features.feature_info.reduction()):
        assert abs(size / m.shape[-1] - reduction) <= reduction / 2, "odd sizes are rounded on the way"
    torch.testing.assert_close(network.head(maps[-1]), network(x))
    made = create_model(name, layout=layout, width=0.125, image_size=size, features_only=True)
    assert {k: v.shape for k, v in made.state_dict().items()} == {k: v.shape for k, v in features.state_dict().items()}
    some = FeatureNetwork(network, out_indices=(-1, 1))
    assert some.feature_info.reduction() == [features.feature_info.reduction()[index] for index in (-1, 1)]
    assert all(torch.equal(m, maps[index]) for m, index in zip(some(x), (-1, 1), strict=True))
    first = create_model(name, layout=layout, width=0.125, image_size=size, features_only=True, out_indices=[1])
    assert len(first.stages) == len(first(x)) == 1  # no stage that nobody wants
    for wrong in ([], [len(maps)], [-len(maps) - 1]):
        with pytest.raises(UserError, match=re.escape(f"out_indices={wrong}: the maps are 0 to {len(maps) - 1}")):
            FeatureNetwork(network, wrong)
    cost = count(network, (3, size, size))
    assert count(made, (3, size, size)).macs == cost.macs - cost.within("head").macs
    with pytest.raises(UserError, match="ResNet has no stages of this project.*create_feature_extractor"):
        create_model("resnet18", features_only=True)


def test_weights_of_a_run_are_its_networks_and_its_classifier_only_for_its_classes(finished_run: Path) -> None:
    options = {"layout": "cifar", "width": 0.125}
    tensors = load_file(finished_run / "model.safetensors")
    same = create_model("c", 10, weights=finished_run, **options)
    assert all(torch.equal(same.state_dict()[name], tensor) for name, tensor in tensors.items())
    other = create_model("c", 3, weights=str(finished_run / "model.safetensors"), **options).state_dict()
    new = {name for name, tensor in tensors.items() if not torch.equal(other[name], tensor)}
    assert new == {"head.classifier.weight", "head.classifier.bias"}
    as_trained = create_model("c", weights=finished_run).state_dict()  # with the run's classes, layout and width
    assert all(torch.equal(as_trained[name], tensor) for name, tensor in tensors.items())
    for another in ("d", "c_noresidual"):  # the second has the parameters of c
        with pytest.raises(UserError, match="holds the weights of another network: model c"):
            create_model(another, 10, weights=finished_run, **options)
    with pytest.raises(UserError, match="no name of published weights: did you mean 'c_cifar10'"):
        create_model("c", weights="c_cifar")
    with pytest.raises(UserError, match="the file does not exist"):
        create_model("c", 10, weights=finished_run / "checkpoints", **options)


@pytest.mark.parametrize("name", ["c", "n", "resnet18", "vgg16", "alexnet", "googlenet"])
def test_without_a_classifier_a_network_gives_what_the_classifier_would_get(name: str) -> None:
    size, seen = 224, []
    network = create_model(name, 10, width=0.125 if name in OURS else None, image_size=size).eval()
    classifier = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    bare = create_model(name, 0, width=0.125 if name in OURS else None, image_size=size).eval()
    bare.load_state_dict(network.state_dict(), strict=False)
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        network(x)
        features = bare(x)
    assert features.shape == (2, classifier.in_features) and torch.equal(features, seen[0])


def test_weights_without_a_classifier(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTERED, "_entries", {})
    whole, bare = (create_model("c", classes, weights=finished_run).eval() for classes in (None, 0))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(whole.head.classifier(bare(x)), whole(x))

    @register_model
    def only_convolutions(num_classes: int, in_chans: int) -> nn.Module:
        return nn.Conv2d(in_chans, num_classes, 3)

    with pytest.raises(UserError, match="num_classes=0: the network has no fully connected layer"):
        create_model("only_convolutions", num_classes=0)


@torch.no_grad()
def test_weights_of_a_run_are_adapted_to_other_channels(finished_run: Path) -> None:
    rgb, grey, two, six = (create_model("c", in_chans=n, weights=finished_run).eval() for n in (3, 1, 2, 6))
    images = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(grey(images), rgb(images.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(six(images.repeat(1, 2, 1, 1)), rgb(images), rtol=1e-4, atol=1e-4)
    assert torch.equal(two.stem.conv.weight, rgb.stem.conv.weight[:, :2] * 1.5)


def test_arguments_that_weights_do_not_fit_are_named(finished_run: Path) -> None:
    for given, own in (({"width": 0.25}, "width=0.125"), ({"layout": "imagenet"}, "layout=cifar")):
        ((name, value),) = given.items()
        with pytest.raises(UserError, match=f"^{name}={value}: the weights in .* are of {own}; leave {name} out$"):
            create_model("c", weights=finished_run, **given)
    with torch.no_grad():  # larger images need no other layout
        assert create_model("c", weights=finished_run, image_size=96).eval()(torch.randn(1, 3, 96, 96)).shape == (1, 10)


def test_hooks_and_other_forwards_of_every_stage_run():
    network, seen = create_model("c", num_classes=10, layout="cifar", width=0.125).eval(), []
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = network(images)
        handles = [stage.register_forward_hook(lambda stage, *_: seen.append(stage)) for stage in network.stages.values()]
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)
        assert seen == list(network.stages.values())
        for handle in handles:
            handle.remove()
        first = network.stages.stage2
        network.stages.stage2 = torch.nn.Sequential(first)  # a wrapper
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)
        network.stages.stage2, first.forward = first, lambda x: torch.zeros(1, 16, 16, 16)
        assert not torch.allclose(network(images), expected)


@pytest.mark.parametrize("grad", [True, False])
def test_features_have_autocasts_type(grad: bool):
    network = create_model("c", layout="cifar", width=0.125, features_only=True).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.set_grad_enabled(grad):
        assert {maps.dtype for maps in network(torch.randn(1, 3, 32, 32))} == {torch.bfloat16}
