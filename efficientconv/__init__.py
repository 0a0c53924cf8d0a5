"""Efficient convolutional layers of arXiv:1608.04337, networks made of them, and what they cost.

    from efficientconv import build_model, count
    model = build_model("c", num_classes=1000, layout="imagenet", width=1.0)
    count(model, (3, 221, 221)).macs

These names are imported when they are first asked for: torch takes seconds, and a command answers signals before that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from efficientconv.complexity import Cost, NetworkCost, count
    from efficientconv.models import build_model, model_names

__version__ = "0.1.0"
__all__ = ["Cost", "NetworkCost", "build_model", "count", "model_names"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    home = "models" if "model" in name else "complexity"
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__
