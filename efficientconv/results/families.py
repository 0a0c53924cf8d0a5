"""Models by the layer that they are made of: what colours mean in pictures."""

from __future__ import annotations

from typing import NamedTuple

from efficientconv.models import list_models, model_config
from efficientconv.results.tables import model_of


class Family(NamedTuple):
    title: str
    colour: str


_FAMILIES = {  # colours of Okabe and Ito, told apart by the colour-blind too
    "standard": Family("standard", "#000000"),
    "grouped": Family("grouped", "#8a8a8a"),
    "unravelled": Family("bases in parallel", "#56b4e9"),
    "sic": Family("SIC", "#d55e00"),
    "topological": Family("topological", "#009e73"),
    "spatial_bottleneck": Family("spatial bottleneck", "#cc79a7"),
    "channel_bottleneck": Family("channel bottleneck", "#0072b2"),
}
_OTHERS = Family("other", "#e69f00")


def family_of(row: str) -> Family:
    """By the last layer of the model's last stage; `other` for networks of torchvision and unknown names."""
    model = model_of(row)
    stages = list(model_config(model).stages.values()) if model in list_models() else []
    return _FAMILIES.get(stages[-1].blocks[-1].layer, _OTHERS) if stages else _OTHERS
