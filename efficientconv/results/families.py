"""Families of models, by the layer that they are made of. A colour in a picture stands for a family."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from efficientconv.errors import UserError
from efficientconv.models import model_config
from efficientconv.results.table_config import model_of


class Family(NamedTuple):
    title: str
    colour: str


_FAMILIES = {  # colours of Okabe and Ito, which colour-blind people can distinguish
    "standard": Family("standard", "#000000"),
    "grouped": Family("grouped", "#8a8a8a"),
    "unravelled": Family("bases in parallel", "#56b4e9"),
    "sic": Family("SIC", "#d55e00"),
    "topological": Family("topological", "#009e73"),
    "spatial_bottleneck": Family("spatial bottleneck", "#cc79a7"),
    "channel_bottleneck": Family("channel bottleneck", "#0072b2"),
}
_OTHERS = Family("other", "#e69f00")


@cache
def family_of(name: str) -> Family:
    """The family of a row of a table, or of `<model> x <width>`: by the last layer of its last stage; no stages: `other`."""
    try:
        stages = list(model_config(model_of(name.partition(" x ")[0])).stages.values())
    except UserError:
        return _OTHERS
    return _FAMILIES.get(stages[-1].blocks[-1].layer, _OTHERS) if stages else _OTHERS
