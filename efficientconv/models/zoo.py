"""Models and layouts by name: the YAML files of configs/model and configs/layout as typed records."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import yaml

from efficientconv.config import LayoutConfig, ModelConfig
from efficientconv.errors import UserError, did_you_mean
from efficientconv.files import CONFIG_DIR
from efficientconv.registry import Registry
from efficientconv.validation import S, validate

if TYPE_CHECKING:
    from torch import nn  # torch takes seconds to import, and the names of models do not need it

T = TypeVar("T", bound="Callable[..., nn.Module]")
REGISTERED: Registry[Callable[..., nn.Module]] = Registry("model")

# auto takes the cifar layout up to this many pixels a side: with more, its first stage would run at more than 32 x 32
CIFAR_LAYOUT_MAX_SIZE = 64
# the images that a layout was designed for: classes, and pixels a side (None: the size for which the model was designed)
LAYOUTS: dict[str, tuple[int, int | None]] = {"imagenet": (1000, None), "cifar": (10, 32)}


def list_models(pattern: str = "*") -> list[str]:
    """The names that `create_model` knows: the paper's first, registered ones last. `pattern` as in a shell: "resnet*"."""
    names = sorted(_configured(), key=lambda name: (_read(ModelConfig, "model", name).trunk == "torchvision", name))
    return fnmatch.filter([*names, *REGISTERED.names()], pattern)


def register_model(function: T) -> T:
    """Decorator: registers a function as a model, which `create_model` then makes by the function's name.

        @register_model
        def tiny(num_classes, in_chans, **kwargs):      # kwargs: layout, width and image_size, where they are given
            return nn.Sequential(nn.Conv2d(in_chans, 8, 3), nn.Flatten(), nn.LazyLinear(num_classes))

        create_model("tiny", num_classes=10)

    Raises:
        ValueError: the name is taken.
    """
    name = function.__name__
    if name in _configured():
        raise ValueError(f"model '{name}' is there already: configs/model/{name}.yaml")
    REGISTERED.register(name)(function)
    return function


def model_config(name: str) -> ModelConfig:
    """The configuration of configs/model/<name>.yaml. Raises UserError with the nearest name."""
    if name not in _configured():
        raise UserError(f"unknown model '{name}': {did_you_mean(name, list_models())}")
    return _read(ModelConfig, "model", name)


def _configured() -> list[str]:
    return [path.stem for path in (CONFIG_DIR / "model").glob("*.yaml")]


def layout_config(model: ModelConfig, image_size: int | None) -> LayoutConfig:
    """The layout of `model`: the stem, the head and the pools around its stages.

    Args:
        image_size: pixels a side of the images; None: the layout's own, which for layout=auto is imagenet's.
    """
    return _read(LayoutConfig, "layout", f"{model.trunk}_{layout_name(model, image_size)}")


def layout_name(model: ModelConfig, image_size: int | None) -> str:
    """imagenet or cifar: the model's own layout, or the one that fits the images."""
    if model.layout != "auto":
        return model.layout
    return "cifar" if image_size is not None and image_size <= CIFAR_LAYOUT_MAX_SIZE else "imagenet"


def _read(schema: type[S], group: str, name: str) -> S:
    values = yaml.safe_load((CONFIG_DIR / group / f"{name}.yaml").read_text())
    return validate(schema, values, where=f"{group}/{name}")
