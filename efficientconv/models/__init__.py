"""Models A to O and the networks they are compared with."""

from efficientconv.models.builder import build_model, image_size_of
from efficientconv.models.zoo import layout_name, model_config, model_names

__all__ = ["build_model", "image_size_of", "layout_name", "model_config", "model_names"]
