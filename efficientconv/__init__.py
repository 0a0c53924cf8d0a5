"""Efficient convolutional layers of arXiv:1608.04337, networks made of them, and what they cost.

    from efficientconv import build_model, count
    model = build_model("c", num_classes=1000, layout="imagenet", width=1.0)
    count(model, (3, 221, 221)).macs
"""

from efficientconv.complexity import Cost, NetworkCost, count
from efficientconv.models import build_model, model_names

__all__ = ["Cost", "NetworkCost", "build_model", "count", "model_names"]
