"""Puts the batch norm of a layer, in inference, into the convolution before it."""

from __future__ import annotations

import copy

import torch
from torch import nn

from efficientconv.layers import (
    ChannelBottleneckConv2d,
    ConvLayer,
    SpatialBottleneckConv2d,
    TopologicalConv2d,
    UnravelledConv2d,
)  # fmt: skip
from efficientconv.layers.backend import is_plain_inside


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
    scale = (bn.running_var + bn.eps).rsqrt() * (1 if bn.weight is None else bn.weight)
    shift = -bn.running_mean * scale + (0 if bn.bias is None else bn.bias)
    conv.weight.mul_(scale.reshape(-1, 1, 1, 1))
    conv.bias = nn.Parameter(shift if conv.bias is None else conv.bias * scale + shift)
    layer.bn = nn.Identity()  # type: ignore[assignment]  # nothing is left of it
    return True


def _last(conv: nn.Module) -> nn.Module | None:
    """The part of a layer whose weight has one row for each output. None: the layer is of an unknown kind."""
    if isinstance(conv, UnravelledConv2d):
        return conv.projection
    if isinstance(conv, SpatialBottleneckConv2d):
        return conv.expansion  # depthwise: a row for each channel, transposed or not
    if isinstance(conv, ChannelBottleneckConv2d):
        return _last(conv.expansion)
    return conv if isinstance(conv, (nn.Conv2d, TopologicalConv2d)) else None
