"""A layer in place of one standard convolution of a network: whether there can be one, and the layer."""

from __future__ import annotations

from collections import Counter

from torch import nn

from efficientconv.decomposition import start_from_weight
from efficientconv.errors import UserError
from efficientconv.layers import LAYERS, GroupedConv2d, StandardConv2d, UnravelledConv2d
from efficientconv.layers.backend import has_hooks, set_backend
from efficientconv.layers.geometry import Geometry

STANDARD = (nn.Conv2d, StandardConv2d, GroupedConv2d)


def reason_to_keep(conv: nn.Conv2d, uses: Counter) -> str | None:
    """Why no layer can replace this convolution. None: a layer can."""
    if type(conv) not in STANDARD:
        return f"{type(conv).__name__} is more than a convolution"
    if conv.kernel_size == (1, 1):
        return "1 x 1: nothing inside a channel"
    if conv.groups == conv.in_channels:
        return "depthwise: nothing between channels"
    if has_hooks(conv):
        return "it has hooks"
    if "forward" in conv.__dict__:
        return "it has a forward of its own"
    shared = [name for name, p in conv.named_parameters() if uses[p] > 1]
    return f"its {shared[0]} is another module's too" if shared else None


def replacement(layer: str, conv: nn.Conv2d, init: str | None, args: dict) -> tuple[nn.Module, float | None]:
    """The layer and the error of its weights. Raises UserError if the layer cannot replace the convolution."""
    conv_class = LAYERS.get(layer)
    if conv.groups > 1:
        if not issubclass(conv_class, UnravelledConv2d):
            raise UserError(f"its {conv.groups} groups, which a {layer} layer has not")
        args = {"groups": conv.groups, **args}
    sizes = {name: getattr(conv, name) for name in Geometry._fields}
    weight = conv.weight.detach()
    made = {"device": weight.device, "dtype": weight.dtype}
    new = conv_class(conv.in_channels, conv.out_channels, bias=conv.bias is not None, **sizes, **made, **args)
    error = None
    if init == "svd":
        if weight.is_meta or weight.is_complex() or not weight.isfinite().all():
            raise UserError("its weight has no real, finite numbers, which init='svd' approximates")
        error = start_from_weight(new, weight)  # type: ignore[arg-type]  # `convert` has seen to the layer
        if conv.bias is not None:
            new.bias.data.copy_(conv.bias.data)
    if "layer_backend" in vars(conv):
        set_backend(new, vars(conv)["layer_backend"])
    new.train(conv.training).requires_grad_(conv.weight.requires_grad)
    if conv.bias is not None:
        new.bias.requires_grad_(conv.bias.requires_grad)
    return new, error
