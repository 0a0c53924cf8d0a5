"""The modules of a frozen network (freezing.py). They do not follow changes of the weights that they were made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn import functional as F

from efficientconv.deploy.folding import scale_and_shift
from efficientconv.errors import UserError, refuse_frozen
from efficientconv.layers import ChannelBottleneckConv2d, ConvLayer, SpatialBottleneckConv2d
from efficientconv.layers.backend import norm_of
from efficientconv.layers.operators import ops
from efficientconv.layers.watchers import is_transformed
from efficientconv.native import build


class Frozen(nn.Module):
    """Refuses what would need the weights that it was made of, and torch.export, whose programs run without this package."""

    is_frozen = True  # refuse_frozen asks for it

    def train(self, mode: bool = True) -> Frozen:
        if mode:
            raise UserError("a frozen network cannot be trained; train the network that it was made of, and freeze it again")
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any) -> None:
        raise UserError("a frozen network takes no weights; load them into the network that it was made of, and freeze that")

    def _refuse_export(self) -> None:
        if torch.compiler.is_exporting():
            refuse_frozen(self, "exported")


class FrozenLayer(Frozen):
    """A `ConvLayer` that always runs its operator, on contiguous maps in float32: n x h x w -> m x h' x w'.

    Batch norm is part of the weights. Those of a topology stand in the order in which the kernel reads them.
    """

    def __init__(self, layer: ConvLayer):
        super().__init__()
        self.conv, self.bn, self.residual, self.in_channels = layer.conv, layer.bn, layer.residual, layer.conv.in_channels
        self.convolutions = _convolutions(layer)

    def forward(self, x: Tensor) -> Tensor:
        if self.convolutions and is_plain(x) and x.shape[1] == self.in_channels and x.numel() > 0:
            *before, (operator, arguments) = self.convolutions
            y = x
            for first, its_arguments in before:
                y = first(y, None, *its_arguments)
            return operator(y, x if self.residual else None, *arguments)
        if torch.is_autocast_enabled("cpu"):  # it would round the maps between the layers
            with torch.autocast("cpu", enabled=False):
                return self.forward(x.float())
        self._refuse_export()
        modules, x = self._modules, x.contiguous()
        return modules["conv"].layer_operator(x, x if self.residual else None, norm_of(modules["bn"]))  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle, which cannot handle an operator."""
        return self.__dict__ | {"convolutions": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.convolutions = _convolutions(self)


class PackedLayer(Frozen):
    """A `ConvLayer` around a convolution of PyTorch, by oneDNN on channels-last maps: n x h x w -> m x h' x w'.

    Args:
        layer: has its batch norm folded into the convolution.
        contiguous: the layer for contiguous maps, if that is faster there.
    """

    def __init__(self, layer: ConvLayer, contiguous: nn.Module | None):
        super().__init__()
        conv: Any = layer.conv
        self.contiguous, self.residual, self.in_channels = contiguous, layer.residual, conv.in_channels
        self.geometry: tuple[Any, ...] = conv.padding, conv.stride, conv.dilation, conv.groups
        self.bias = conv.bias.detach()
        self.weight = self._packed(conv.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32 and torch.is_autocast_enabled("cpu"):
            x = x.float()
        if self.contiguous is not None and not is_transformed() and x.is_contiguous():
            return self.contiguous(x)
        self._check(x)
        if x.numel() == 0:
            padding, stride, *others = self.geometry
            return F.conv2d(x, self.weight.to_dense(), self.bias, stride, padding, *others)
        x, convolution = x.contiguous(memory_format=torch.channels_last), torch.ops.mkldnn._convolution_pointwise
        # not oneDNN's ReLU, which makes 0 of NaN
        if not self.residual:
            return convolution.default(x, self.weight, self.bias, *self.geometry, "none", [], "").relu_()
        if x.shape[2] * x.shape[3] == 1:  # the fused addition of torch 2.11 refuses maps of one pixel
            return (convolution.default(x, self.weight, self.bias, *self.geometry, "none", [], "") + x).relu_()
        return convolution.binary(x, x, self.weight, self.bias, *self.geometry, "add", 1.0, None, [], None).relu_()

    def _check(self, x: Tensor) -> None:
        """Raises ValueError where oneDNN would compute without a gradient, or read what is not there."""
        self._refuse_export()
        if not (is_plain(x) and x.shape[1] == self.in_channels):
            raise ValueError(
                f"a frozen layer takes float32 maps B x {self.in_channels} x H x W on the CPU, without gradients or "
                f"torch.func; got {tuple(x.shape)} in {x.dtype} on {x.device}, requires_grad={x.requires_grad}"
            )

    def _packed(self, weight: Tensor) -> Tensor:
        return torch.ops.mkldnn._reorder_convolution_weight(weight.contiguous(), *self.geometry)

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle, which cannot handle a packed weight.

        An array is copied into a spawned process; a tensor would be shared, and is freed before the process opens it.
        """
        return self.__dict__ | {"weight": self.weight.to_dense().numpy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.weight = self._packed(torch.as_tensor(self.weight))  # a tensor in files of earlier versions


class FrozenLinear(Frozen):
    """An `nn.Linear` as a projection of the kernels, which see B images of one pixel: B x n -> B x m."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        self._refuse_export()
        if x.dim() != 2 or x.shape[1] != self.weight.shape[1] or torch.is_autocast_enabled("cpu"):
            return F.linear(x, self.weight, self.bias)
        y = ops.topological(x[:, :, None, None], self.weight[:, :, None, None], 0, (), (), "center").flatten(1)
        return y if self.bias is None else y + self.bias


def is_plain(x: Tensor) -> bool:
    """Whether x are maps in float32 on the CPU, and nobody wants gradients, a transform or a program of them."""
    return (
        type(x) is Tensor and x.dim() == 4 and x.dtype == torch.float32 and x.is_cpu
        and not (x.requires_grad and torch.is_grad_enabled()) and not is_transformed() and not torch.compiler.is_exporting()
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
