"""Efficient convolutional layers of arXiv:1608.04337, networks made of them, and what they cost.

    import efficientconv as ec
    from efficientconv.layers import SICConv2d

    layer = SICConv2d(64, 128, 3, stride=2)                  # nn.Conv2d's arguments; all layers: help(ec.layers)
    model = ec.create_model("c", num_classes=10, layout="cifar", width=0.25)
    print(ec.count(model, (3, 32, 32)).macs)                 # of one image
    print(ec.convert(network, "sic", shape=(3, 224, 224)))   # a network of yours, in place
    ec.load_run("outputs/<run>").predict("<file or folder>", topk=5)

docs/library.md explains all of this.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from efficientconv.errors import of_extra

if TYPE_CHECKING:
    from efficientconv import layers
    from efficientconv.complexity import Cost, NetworkCost, count
    from efficientconv.conversion import convert
    from efficientconv.deploy.export import prepare_for_export
    from efficientconv.deploy.freezing import freeze
    from efficientconv.engine.trained_run import load_run
    from efficientconv.models import create_model, list_models, register_model
    from efficientconv.native.memory import empty_cache
    from efficientconv.weights import list_weights

__version__ = "0.1.0"
# imported when first asked for: torch takes seconds, and a command answers signals before that
_HOMES = {
    "complexity": ("Cost", "NetworkCost", "count"),
    "conversion": ("convert",),
    "engine.trained_run": ("load_run",),
    "deploy.export": ("prepare_for_export",),
    "deploy.freezing": ("freeze",),
    "models": ("create_model", "list_models", "register_model"),
    "native.memory": ("empty_cache",),
    "weights": ("list_weights",),
}
__all__ = [
    "Cost", "NetworkCost", "convert", "count", "create_model", "empty_cache", "freeze", "layers",
    "list_models", "list_weights", "load_run", "prepare_for_export", "register_model",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name == "layers":
        return import_module(f"{__name__}.layers")
    for home, names in _HOMES.items():
        if name in names:
            with of_extra("train"):
                return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
