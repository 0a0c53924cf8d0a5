"""Builds a network from its configuration: `create_model`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from torch import nn

from efficientconv.config import (
    BlockConfig,
    ConvConfig,
    Decisions,
    LayoutConfig,
    ModelConfig,
    PoolConfig,
    StageConfig,
    TopologyConfig,
)
from efficientconv.errors import UserError
from efficientconv.layers import ConvLayer, Topology, build_layer
from efficientconv.layers.geometry import is_whole
from efficientconv.models import torchvision_models
from efficientconv.models.decisions import decided, start_expansions
from efficientconv.models.features import FeatureNetwork
from efficientconv.models.network import Head, Network, Stage, classifier_of
from efficientconv.models.zoo import REGISTERED, layout_config, layout_name, model_config
from efficientconv.validation import validate


def create_model(
    model: str | ModelConfig,
    num_classes: int | None = None,
    in_chans: int = 3,
    *,
    layout: str | None = None,
    width: float | None = None,
    image_size: int | None = None,
    weights: str | Path | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> nn.Module:
    """A network for images B x in_chans x S x S, giving logits B x num_classes.

    Arguments and FeatureNetwork.feature_info are named as in timm. timm's other arguments and methods are not here.

        create_model("c", num_classes=10, layout="cifar", width=0.25)     # random weights
        create_model("c", num_classes=5, weights="c_cifar10")             # trained weights, and a new classifier

    Args:
        model: a name of `list_models()` or a configuration.
        num_classes: None: the number of the weights; without weights 1000. 0: no classifier; the network gives the
            features that the classifier would get, as timm's do.
        layout: imagenet, cifar or auto; None: the configuration's.
        width: multiplies every channel count; None: the configuration's.
        image_size: S; None: the layout's own (221 or 224, 32).
        weights: a name of `list_weights()`, a run's folder or its model.safetensors; None: random weights. The network has
            the run's configuration and image size. If num_classes differs from the run's, the classifier is new. For
            another in_chans the first convolution's weights are adapted as timm does it: their sum for one channel,
            repeated and scaled for more. Another image_size changes no weights.
        features_only: the network gives the maps behind the stem and each stage instead of logits (`FeatureNetwork`).
        out_indices: which of these maps; None: all.
    Raises:
        UserError: an unknown name or layout, a number that is not whole, images that the layout cannot take, channels that a
            layer refuses, weights of another network, width or layout, features of a network without stages, no classifier
            to leave out.
    """
    if not isinstance(model, (str, ModelConfig)):
        raise UserError(f"create_model: a model is a name, such as 'c', or a configuration, no {type(model).__name__}")
    given = {"layout": layout, "width": width}
    changes = {key: value for key, value in given.items() if value is not None}
    classes = None if num_classes == 0 else num_classes  # the classifier is left out of the finished network
    if weights is not None:
        from efficientconv.models.trained import as_trained, start_from  # here: nothing else needs safetensors
        from efficientconv.weights import find_weights, load_checked

        origin = find_weights(weights)
        origin = origin / "model.safetensors" if origin.is_dir() else origin
        start = load_checked(origin)
        model, classes, image_size = as_trained(start, origin, model, classes, image_size, changes)
    network = _network(model, 1000 if classes is None else classes, in_chans, image_size, changes)
    if weights is not None:
        start_from(network, start.tensors, origin)
    if num_classes == 0:
        _leave_out_classifier(network)
    return FeatureNetwork(network, out_indices) if features_only else network


def _leave_out_classifier(network: nn.Module) -> None:
    name = classifier_of(network)
    if name is None:
        raise UserError("num_classes=0: the network has no fully connected layer to leave out")
    network.set_submodule(name, nn.Identity())


def _network(
    model: str | ModelConfig, num_classes: int, in_chans: int, image_size: int | None,
    changes: Mapping[str, str | float | None],
) -> nn.Module:  # fmt: skip
    for name, value in (("num_classes", num_classes), ("in_chans", in_chans), ("image_size", image_size)):
        if value is not None and (not is_whole(value) or value < 1):
            raise UserError(f"{name}={value!r} is out of range; choose a whole number, 1 or more")
    if isinstance(model, str) and model in REGISTERED.names():
        size = {} if image_size is None else {"image_size": image_size}
        return REGISTERED.get(model)(num_classes=num_classes, in_chans=in_chans, **changes, **size)
    config = model_config(model) if isinstance(model, str) else model
    if config.macs is not None:
        if "width" not in changes:
            raise UserError(
                f"model '{config.name}' has a budget of {config.macs:g} MACs and no width: train.py finds the width, "
                "everything else needs it given"
            )
        changes = {**changes, "macs": None}
    config = validate(ModelConfig, {**config.model_dump(), **changes}, where="model") if changes else config
    return _configured(config, num_classes, in_chans, image_size)


def _configured(config: ModelConfig, num_classes: int, in_chans: int, image_size: int | None) -> nn.Module:
    if config.trunk == "torchvision":
        return torchvision_models.build(config, num_classes, in_chans, image_size)
    layout = layout_config(config, image_size)
    _check_sizes(config, layout, image_size)
    network = _build(_scale(layout, config.width), config, num_classes, in_chans)
    start_expansions(network, config.decisions)
    return network


def image_size_of(model: ModelConfig, image_size: int | None) -> int:
    """The side of the network's input in pixels: that of the data, or the layout's if the data have images of any size."""
    if image_size is not None:
        return image_size
    if model.trunk == "torchvision":
        return torchvision_models.IMAGE_SIZE
    return layout_config(model, None).image_size


def _build(layout: LayoutConfig, config: ModelConfig, num_classes: int, in_chans: int) -> Network:
    channels = layout.stem.channels
    stages = {}
    for name, stage in layout.stages.items():
        pool = None if stage.pool is None else _pool(stage.pool)
        changes = stage.channels != channels
        transition = build_layer("standard", channels, stage.channels, kernel_size=1) if changes else None
        channels = stage.channels
        stages[name] = Stage(pool, transition, _layers(config.stages[name], channels, name, config.decisions))
    head = layout.head
    conv = build_layer("standard", channels, head.channels, residual=False, kernel_size=1)
    return Network(_stem(layout.stem, in_chans), stages, Head(conv, head.channels, head.hidden, head.dropout, num_classes))


def _stem(stem: ConvConfig, in_chans: int) -> ConvLayer:
    conv = nn.Conv2d(in_chans, stem.channels, stem.kernel_size, stem.stride, stem.padding, bias=False)
    return ConvLayer(conv, in_chans, stem.channels, residual=False)


def _pool(pool: PoolConfig) -> nn.MaxPool2d:
    return nn.MaxPool2d(pool.kernel_size, pool.stride, pool.padding)


def _layers(stage: StageConfig, channels: int, name: str, decisions: Decisions) -> list[ConvLayer]:
    blocks = [decided(block, decisions) for block in stage.blocks]
    try:
        return [_layer(block, channels, decisions.batch_norm) for _ in range(stage.depth) for block in blocks]
    except UserError as error:
        raise UserError(f"{name} ({channels} channels): {error}") from None


def _layer(block: BlockConfig, channels: int, batch_norm: Literal["before", "behind"]) -> ConvLayer:
    args = dict(block.args)
    if "topology" in args:
        topology = validate(TopologyConfig, args["topology"], where="topology")
        args["topology"] = Topology(**topology.model_dump()).resized(channels)
    return build_layer(block.layer, channels, channels, residual=block.residual, batch_norm=batch_norm, **args)


def _scale(layout: LayoutConfig, width: float) -> LayoutConfig:
    """`layout` with every number of channels multiplied and rounded, at least 1."""

    def times(channels: int) -> int:
        return max(1, round(channels * width))

    stages = {name: stage.model_copy(update={"channels": times(stage.channels)}) for name, stage in layout.stages.items()}
    head = {"channels": times(layout.head.channels), "hidden": times(layout.head.hidden)}
    return layout.model_copy(
        update={
            "stem": layout.stem.model_copy(update={"channels": times(layout.stem.channels)}),
            "stages": stages,
            "head": layout.head.model_copy(update=head),
        }
    )


def _check_sizes(config: ModelConfig, layout: LayoutConfig, image_size: int | None) -> None:
    """Refuses a model whose stages are not the layout's, and images that are too small for the layout."""
    if config.stages.keys() != layout.stages.keys():
        raise UserError(
            f"model '{config.name}' has the stages {', '.join(config.stages) or 'none'}, but its trunk "
            f"'{config.trunk}' has {', '.join(layout.stages)}; name them alike"
        )
    size = layout.image_size if image_size is None else image_size
    if _last_map(layout, size) < 1:
        least = next(s for s in range(size + 1, layout.image_size + 1) if _last_map(layout, s) >= 1)
        raise UserError(
            f"image_size={size} is too small for layout={layout_name(config, image_size)} of model '{config.name}': it "
            f"takes {least} x {least} and larger; choose another layout or a larger data.image_size"
        )


def _last_map(layout: LayoutConfig, size: int) -> int:
    """The side of the feature map that reaches the head; less than 1 if the image is too small."""
    parts: list[ConvConfig | PoolConfig] = [layout.stem, *(stage.pool for stage in layout.stages.values() if stage.pool)]
    for part in parts:
        size = (size + 2 * part.padding - part.kernel_size) // part.stride + 1
        if size < 1:
            break
    return size
