"""Models A to O and the networks they are compared with."""

from efficientconv.models.builder import create_model, image_size_of
from efficientconv.models.features import FeatureNetwork
from efficientconv.models.zoo import layout_name, list_models, model_config, register_model

__all__ = [
    "FeatureNetwork", "create_model", "image_size_of", "layout_name", "list_models", "model_config", "register_model",
]  # fmt: skip
