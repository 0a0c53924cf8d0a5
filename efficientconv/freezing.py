"""Networks for inference on a CPU in which each layer decides once, and not at each call, how it is computed.

    fast = freeze(create_model("c", layout="cifar", weights="c_cifar10").eval())
    with torch.inference_mode():
        logits = fast(images)

A `ConvLayer` asks at each call whether hooks, other weights or other attributes forbid its kernel, folds its batch norm, and
puts its weights into the order in which the kernel or oneDNN reads them. For one small image that takes a large part of the
time. A frozen layer did all of it once. The fully connected layers of a network of `create_model` become projections of the
kernels, on all threads: PyTorch multiplies one image's features by the weights on one thread.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn import functional as F

from efficientconv.errors import UserError
from efficientconv.folding import fold, scale_and_shift
from efficientconv.layers import ChannelBottleneckConv2d, ConvLayer, SpatialBottleneckConv2d
from efficientconv.layers.backend import HasOperator, are_plain, compile_kernels, norm_of, runs_operator, takes_norm
from efficientconv.layers.operators import ops
from efficientconv.models.entry import MAX_CHANNELS
from efficientconv.models.network import Head
from efficientconv.native import build


@torch.no_grad()
def freeze(model: nn.Module) -> nn.Module:
    """A copy of `model` for inference on a CPU in float32. Its outputs are those of `model` but for rounding.

    Layers that `build_layer` or `create_model` made are frozen. Layers with hooks, special weights or another backend than
    auto and native stay as they are, and so do all other modules. Do not change the copy, or the weights in it: change
    `model`, and freeze it again.

    Raises:
        UserError: `model` is in training mode, or has weights that are not in float32 on a CPU.
    """
    if model.training:
        raise UserError("freeze: the model is in training mode; call model.eval() first")
    for name, p in model.named_parameters():
        if not p.is_cpu or p.dtype != torch.float32:
            raise UserError(f"freeze: {name} is {p.dtype} on {p.device}; only float32 on a CPU can be frozen")
    compile_kernels(model)
    model = copy.deepcopy(model).requires_grad_(False)
    if isinstance(model, ConvLayer):
        return _frozen(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, ConvLayer):
            model.set_submodule(name, _frozen(module))
        if isinstance(module, Head):
            for part in ("hidden", "classifier"):
                setattr(module, part, _frozen_linear(getattr(module, part)))
    return model


class FrozenLayer(nn.Module):
    """A `ConvLayer` that always runs its operator, on contiguous maps in float32: n x h x w -> m x h' x w'.

    Batch norm is part of the weights. Those of a topology stand in the order in which the kernel reads them.
    """

    def __init__(self, layer: ConvLayer):
        super().__init__()
        self.conv, self.bn, self.residual, self.in_channels = layer.conv, layer.bn, layer.residual, layer.conv.in_channels
        self.convolutions = _convolutions(layer)

    def forward(self, x: Tensor) -> Tensor:
        if self.convolutions and _is_plain(x) and x.shape[1] == self.in_channels:
            *before, (operator, arguments) = self.convolutions
            y = x
            for first, its_arguments in before:
                y = first(y, None, *its_arguments)
            return operator(y, x if self.residual else None, *arguments)
        if torch.is_autocast_enabled("cpu"):  # it would round the maps between the layers
            with torch.autocast("cpu", enabled=False):
                return self.forward(x.float())
        modules, x = self._modules, x.contiguous()
        return modules["conv"].layer_operator(x, x if self.residual else None, norm_of(modules["bn"]))  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle, which cannot handle an operator."""
        return self.__dict__ | {"convolutions": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.convolutions = _convolutions(self)


class PackedLayer(nn.Module):
    """A `ConvLayer` around a convolution of PyTorch, in one call of oneDNN on channels-last maps: n x h x w -> m x h' x w'.

    Args:
        layer: has its batch norm folded into the convolution.
        contiguous: the layer for contiguous maps, if that is faster there.
    """

    def __init__(self, layer: ConvLayer, contiguous: nn.Module | None):
        super().__init__()
        conv = layer.conv
        self.contiguous, self.residual, self.in_channels = contiguous, layer.residual, conv.in_channels
        self.geometry = conv.padding, conv.stride, conv.dilation, conv.groups
        self.bias = conv.bias.detach()
        self.weight = self._packed(conv.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        if self.contiguous is not None and x.is_contiguous():
            return self.contiguous(x)
        self._check(x)
        x, convolution = x.contiguous(memory_format=torch.channels_last), torch.ops.mkldnn._convolution_pointwise
        if self.residual and x.shape[2] * x.shape[3] == 1:  # the fused addition of torch 2.11 refuses maps of one pixel
            return (convolution.default(x, self.weight, self.bias, *self.geometry, "none", [], "") + x).relu_()
        if self.residual:
            return convolution.binary(x, x, self.weight, self.bias, *self.geometry, "add", 1.0, "relu", [], "")
        return convolution.default(x, self.weight, self.bias, *self.geometry, "relu", [], "")

    def _check(self, x: Tensor) -> None:
        """Raises ValueError where oneDNN would compute without a gradient, or read what is not there."""
        if not (_is_plain(x) and x.shape[1] == self.in_channels):
            raise ValueError(
                f"a frozen layer takes float32 maps B x {self.in_channels} x H x W on the CPU, without gradients; "
                f"got {tuple(x.shape)} in {x.dtype} on {x.device}, requires_grad={x.requires_grad}"
            )

    def _packed(self, weight: Tensor) -> Tensor:
        return torch.ops.mkldnn._reorder_convolution_weight(weight.contiguous(), *self.geometry)

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle, which cannot handle a packed weight."""
        return self.__dict__ | {"weight": self.weight.to_dense()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.weight = self._packed(self.weight)


class FrozenLinear(nn.Module):
    """An `nn.Linear` as a projection of the kernels, which see B images of one pixel: B x n -> B x m."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 2 or x.shape[1] != self.weight.shape[1] or torch.is_autocast_enabled("cpu"):
            return F.linear(x, self.weight, self.bias)
        y = ops.topological(x[:, :, None, None], self.weight[:, :, None, None], 0, (), (), "center").flatten(1)
        return y if self.bias is None else y + self.bias


def _frozen_linear(linear: nn.Module) -> nn.Module:
    return FrozenLinear(linear) if type(linear) is nn.Linear and are_plain([linear]) and build.available() else linear


def _frozen(layer: ConvLayer) -> nn.Module:
    """`layer` frozen, or `layer` itself if it cannot be."""
    conv, backends = layer.conv, {layer.layer_backend, getattr(layer.conv, "layer_backend", "auto")}
    if layer.norm_behind or not takes_norm(layer.bn) or not are_plain([layer]) or backends - {"auto", "native"}:
        return layer
    maps, contiguous = torch.zeros(1, conv.in_channels, 8, 8), None
    if isinstance(conv, HasOperator):
        if runs_operator(layer, maps.contiguous(memory_format=torch.channels_last), conv):
            return FrozenLayer(layer)
        contiguous = FrozenLayer(layer) if runs_operator(layer, maps, conv) else None
    return PackedLayer(layer, contiguous) if _packs(conv) and fold(layer) else layer


def _is_plain(x: Tensor) -> bool:
    """Whether x are maps in float32 on the CPU whose gradient nobody wants."""
    return (
        type(x) is Tensor and x.dim() == 4 and x.dtype == torch.float32 and x.is_cpu and x.numel() > 0
        and not (x.requires_grad and torch.is_grad_enabled())
    )  # fmt: skip


@torch.no_grad()
def _convolutions(layer: ConvLayer | FrozenLayer) -> list[tuple[OpOverload, tuple]]:
    """The frozen operators that compute `layer` one after the other, and their arguments after the residual input."""
    conv, parts = layer.conv, [(layer.conv, layer.bn)]
    if isinstance(conv, ChannelBottleneckConv2d):
        parts = [(conv.reduction.conv, conv.reduction.bn), (conv.expansion, layer.bn)]
    if not build.available() or any(bn.running_mean is None for _, bn in parts):  # no compiler; or own statistics
        return []
    return [_operator(conv, *(t.float() for t in scale_and_shift(bn))) for conv, bn in parts]


def _operator(conv: Any, scale: Tensor, shift: Tensor) -> tuple[OpOverload, tuple]:
    if isinstance(conv, SpatialBottleneckConv2d):
        reduction, projection, expansion, *sizes = conv.operator_arguments()
        scaled = expansion * scale.view(-1, 1, 1, 1)
        return ops.frozen_spatial_bottleneck.default, (reduction, projection, scaled, shift, *sizes)
    *tensors, dims, connections, anchor = conv.operator_arguments()
    *filters, weight = (t for t in tensors if isinstance(t, Tensor))
    inputs = len(filters[0]) if filters else conv.in_channels
    frozen = ops.frozen_weight.default(weight, scale, inputs, dims, connections, anchor)
    first = filters[0] if filters else None
    return ops.frozen_layer.default, (first, frozen, shift, conv.kernel_size[0], dims, connections, anchor)


def _packs(conv: nn.Module) -> bool:
    """Whether oneDNN computes `conv`, and is the fastest: the first convolution of a network has a kernel of its own."""
    return (
        isinstance(conv, nn.Conv2d) and conv.in_channels > MAX_CHANNELS and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str) and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )  # fmt: skip
