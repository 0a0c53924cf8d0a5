"""Models A to O and the networks they are compared with.

Names that need torch are imported on first use, so that the names and records of models can be read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from efficientconv.models.zoo import LAYOUTS, layout_name, list_models, model_config, register_model

if TYPE_CHECKING:
    from efficientconv.models.builder import create_model, image_size_of
    from efficientconv.models.features import FeatureNetwork

_HOMES = {"create_model": "builder", "image_size_of": "builder", "FeatureNetwork": "features"}
__all__ = [
    "LAYOUTS", "FeatureNetwork", "create_model", "image_size_of", "layout_name", "list_models", "model_config",
    "register_model",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
