"""Models and layouts by name: the YAML files of configs/model and configs/layout as typed records."""

from __future__ import annotations

import yaml

from efficientconv.config import CONFIG_DIR, LayoutConfig, ModelConfig
from efficientconv.errors import UserError, did_you_mean
from efficientconv.validation import S, validate

# auto takes the cifar layout up to this many pixels a side: above, its first stage would run at more than 32 x 32
CIFAR_LAYOUT_MAX_SIZE = 64


def model_names() -> list[str]:
    """Every model that `model=` knows, the paper's first."""
    names = [path.stem for path in (CONFIG_DIR / "model").glob("*.yaml")]
    return sorted(names, key=lambda name: (_read(ModelConfig, "model", name).trunk == "torchvision", name))


def model_config(name: str) -> ModelConfig:
    """The configuration of configs/model/<name>.yaml. Raises UserError with the nearest name."""
    if not (CONFIG_DIR / "model" / f"{name}.yaml").exists():
        raise UserError(f"unknown model '{name}': {did_you_mean(name, model_names())}")
    return _read(ModelConfig, "model", name)


def layout_config(model: ModelConfig, image_size: int | None) -> LayoutConfig:
    """What stands around the stages of `model`.

    Args:
        image_size: pixels a side of the images; None: the layout's own, which for layout=auto is imagenet's.
    """
    return _read(LayoutConfig, "layout", f"{model.trunk}_{layout_name(model, image_size)}")


def layout_name(model: ModelConfig, image_size: int | None) -> str:
    """imagenet or cifar: the model's own choice, or the one that fits the images."""
    if model.layout != "auto":
        return model.layout
    return "cifar" if image_size is not None and image_size <= CIFAR_LAYOUT_MAX_SIZE else "imagenet"


def _read(schema: type[S], group: str, name: str) -> S:
    values = yaml.safe_load((CONFIG_DIR / group / f"{name}.yaml").read_text())
    return validate(schema, values, where=f"{group}/{name}")
