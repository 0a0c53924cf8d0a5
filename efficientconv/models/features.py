"""The maps of a network's stages, for detection, segmentation and similar tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from efficientconv.errors import UserError
from efficientconv.layers.cells import as_autocast
from efficientconv.models.network import Network


@dataclass(frozen=True)
class Feature:
    """One map: `channels` x H / reduction x W / reduction (rounded as its convolutions and pools do)."""

    channels: int
    reduction: int


class FeatureInfo(tuple[Feature, ...]):
    """Two of the methods of timm's: feature_info.channels(), feature_info.reduction()."""

    def channels(self) -> list[int]:
        return [feature.channels for feature in self]

    def reduction(self) -> list[int]:
        return [feature.reduction for feature in self]


class FeatureNetwork(nn.Module):
    """Stem and stages of a network: images B x C x H x W -> the map behind each, a list, largest first.

    `feature_info` has channels and reduction of each map. Parameters have the same names as in the network.

    Args:
        out_indices: of the wanted maps, as in timm: 0 is the map behind the stem, -1 the last one. None: all.
    Raises:
        UserError: a network that is not one of this project's, and an index of no map.
    """

    def __init__(self, network: nn.Module, out_indices: Sequence[int] | None = None):
        super().__init__()
        if not isinstance(network, Network):
            raise UserError(
                f"features_only: {type(network).__name__} has no stages of this project; torchvision's networks have "
                "torchvision.models.feature_extraction.create_feature_extractor"
            )
        info = _info(network)
        wanted = range(len(info)) if out_indices is None else out_indices
        if not wanted or any(not -len(info) <= index < len(info) for index in wanted):
            raise UserError(f"out_indices={out_indices!r}: the maps are 0 to {len(info) - 1}, or -1 for the last")
        self.out_indices = [index % len(info) for index in wanted]
        self.stem, self.stages = network.stem, nn.ModuleDict(dict(list(network.stages.items())[: max(self.out_indices)]))
        self.feature_info = FeatureInfo(info[index] for index in self.out_indices)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.stem(x)]
        for stage in self.stages.values():
            maps.append(stage(maps[-1]))
        return list(as_autocast(*(maps[index] for index in self.out_indices)))  # between kernels the maps are in float32


def _info(network: Network) -> FeatureInfo:
    first: nn.Conv2d = network.stem.conv  # type: ignore[assignment]  # of images: always a plain convolution
    reduction = first.stride[0]
    features = [Feature(first.out_channels, reduction)]
    stages: Any = network.stages
    for stage in stages.values():
        reduction *= getattr(stage.pool, "stride", 1)
        features.append(Feature(stage.layers[-1].bn.num_features, reduction))
    return FeatureInfo(features)
