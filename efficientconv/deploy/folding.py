"""Copies of networks for inference, in which the batch norm of a layer goes into the convolution before it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from efficientconv.layers import (
    ChannelBottleneckConv2d,
    ConvLayer,
    SpatialBottleneckConv2d,
    TopologicalConv2d,
    UnravelledConv2d,
)  # fmt: skip
from efficientconv.layers.backend import is_plain_inside


def copied(model: nn.Module) -> nn.Module:
    """A deep copy of `model`. Weights that pruning or weight_norm computes have a history, which copy.deepcopy refuses."""
    tensors = (t for module in model.modules() for t in module.__dict__.values() if isinstance(t, Tensor) and not t.is_leaf)
    return copy.deepcopy(model, {id(t): t.detach().clone() for t in tensors})


@torch.no_grad()
def fold(layer: ConvLayer) -> bool:
    """Makes bn(conv(x)) one convolution: channel i of its last weight times g_i / s_i, and a bias. Whether it could."""
    bn = layer.bn
    if layer.norm_behind or type(bn) is not nn.BatchNorm2d or bn.running_mean is None or not is_plain_inside(layer):
        return False
    layer.conv = copy.deepcopy(layer.conv)  # another layer may share the convolution or its weight
    conv = _last(layer.conv)
    if conv is None:
        return False
    scale, shift = (t.type_as(conv.weight) for t in scale_and_shift(bn))  # type: ignore[arg-type]
    conv.weight.mul_(scale.reshape(-1, 1, 1, 1))
    conv.bias = nn.Parameter(shift if conv.bias is None else conv.bias * scale + shift)
    layer.bn = nn.Identity()  # type: ignore[assignment]  # nothing is left of it
    return True


def scale_and_shift(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Batch norm in inference as x * scale + shift, in float64: m numbers each."""
    scale = (bn.running_var.double() + bn.eps).rsqrt() * (1 if bn.weight is None else bn.weight)
    return scale, -bn.running_mean * scale + (0 if bn.bias is None else bn.bias)


def _last(conv: nn.Module) -> nn.Module | None:
    """The part of a layer whose weight has one row for each output. None: the layer is of an unknown kind."""
    if isinstance(conv, UnravelledConv2d):
        return conv.projection
    if isinstance(conv, SpatialBottleneckConv2d):
        return conv.expansion  # depthwise: a row for each channel, transposed or not
    if isinstance(conv, ChannelBottleneckConv2d):
        return _last(conv.expansion)
    return conv if isinstance(conv, (nn.Conv2d, TopologicalConv2d)) else None
