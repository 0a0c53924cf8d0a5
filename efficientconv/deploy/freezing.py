"""Networks for inference on a CPU in which each layer decides once, and not at each call, how it is computed.

    fast = freeze(create_model("c", layout="cifar", weights="c_cifar10").eval())
    with torch.inference_mode():
        logits = fast(images)

A `ConvLayer` asks at each call whether hooks, other weights or other attributes forbid its kernel, folds its batch norm, and
puts its weights into the order in which the kernel or oneDNN reads them. For one small image that takes a large part of the
time. A frozen layer did all of it once. The fully connected layers of a network of `create_model` become projections of the
kernels, on all threads: PyTorch multiplies one image's features by the weights on one thread. All layers of such a network
run in one call (frozen_network.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from efficientconv.deploy.folding import copied, fold
from efficientconv.deploy.frozen import FrozenLayer, FrozenLinear, PackedLayer
from efficientconv.deploy.frozen_network import FrozenNetwork
from efficientconv.errors import UserError, require_network
from efficientconv.layers import ConvLayer
from efficientconv.layers.backend import HasOperator, are_plain, compile_kernels, runs_operator, takes_norm
from efficientconv.layers.geometry import keeps_size
from efficientconv.models.entry import MAX_CHANNELS
from efficientconv.models.network import Head, Network
from efficientconv.native import build


@torch.no_grad()
def freeze(model: nn.Module) -> nn.Module:
    """A copy of `model` for inference on a CPU in float32. Its outputs are those of `model` but for rounding.

    Layers that `build_layer` or `create_model` made are frozen. Layers with hooks, special weights, a batch norm in training
    mode or another backend than auto and native stay as they are, and so do all other modules. The copy takes no weights and
    cannot be trained: change `model`, and freeze it again.

    Raises:
        UserError: `model` is in training mode, or has weights that are not in float32 on a CPU.
    """
    require_network(model, "freeze")
    if model.training:
        raise UserError("freeze: the model is in training mode; call model.eval() first")
    for name, p in model.named_parameters():
        if not p.is_cpu or p.dtype != torch.float32:
            raise UserError(f"freeze: {name} is {p.dtype} on {p.device}; only float32 on a CPU can be frozen")
    compile_kernels(model)
    model = copied(model).requires_grad_(False)
    if isinstance(model, ConvLayer):
        return _frozen(model)
    frozen: dict[nn.Module, nn.Module] = {}  # a layer may have several names
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, ConvLayer):
            if module not in frozen:
                frozen[module] = _frozen(module)
            model.set_submodule(name, frozen[module])
        if isinstance(module, Head):
            for part in ("hidden", "classifier"):
                setattr(module, part, _frozen_linear(getattr(module, part)))
    return FrozenNetwork(model) if type(model) is Network else model


def _frozen(layer: ConvLayer) -> nn.Module:
    """`layer` frozen, or `layer` itself if it cannot be."""
    conv: Any = layer.conv
    backends = {layer.layer_backend, getattr(conv, "layer_backend", "auto")}
    if layer.norm_behind or not takes_norm(layer.bn) or not are_plain([layer]) or backends - {"auto", "native"}:
        return layer
    if any(module.training for module in layer.modules()):
        return layer
    maps, contiguous = torch.zeros(1, conv.in_channels, 8, 8, dtype=torch.float32, device="cpu"), None
    if isinstance(conv, HasOperator):
        if runs_operator(layer, maps.contiguous(memory_format=torch.channels_last), conv):
            return FrozenLayer(layer)
        contiguous = FrozenLayer(layer) if runs_operator(layer, maps, conv) else None
    return PackedLayer(layer, contiguous) if _packs(layer) and fold(layer) else layer


def _packs(layer: ConvLayer) -> bool:
    """Whether oneDNN computes `layer`, and is the fastest: the first convolution of a network has a kernel of its own."""
    conv = layer.conv
    return (
        isinstance(conv, nn.Conv2d) and conv.in_channels > MAX_CHANNELS and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str) and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and (not layer.residual or keeps_size(conv))  # else torch broadcasts or refuses the residual
    )  # fmt: skip


def _frozen_linear(linear: nn.Module) -> nn.Module:
    return FrozenLinear(linear) if type(linear) is nn.Linear and are_plain([linear]) and build.available() else linear
