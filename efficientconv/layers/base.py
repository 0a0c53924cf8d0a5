"""The registry of layers, and the layer around a convolution (batch norm, residual connection, ReLU).

A registered class is a convolution: `forward(x)` on n x h x w maps, and `cost(h, w)`, the formula of its cost. `ConvLayer`
makes a layer of a convolution. `build_layer("sic", 64, 64, kernel_size=3)` makes both.
"""

from __future__ import annotations

import inspect
from typing import Any, Literal, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.errors import UserError, did_you_mean
from efficientconv.layers.backend import (
    HasOperator,
    are_plain,
    norm_of,
    runs_kernels,
    runs_operator,
    runs_triton,
    stands_for,
    takes_norm,
)
from efficientconv.layers.geometry import Device, Geometry, keeps_size
from efficientconv.layers.operators import ops
from efficientconv.registry import Registry

LAYERS: Registry[type[nn.Module]] = Registry("layer")


class ConvLayer(nn.Module):
    """relu(bn(conv(x)) + x): n x h x w -> m x h' x w'.

    The order is convolution, batch norm, addition, ReLU (paper, algorithm 3 [A], [M], [D]).

    Args:
        conv: the convolution; it needs no bias.
        in_channels, out_channels: n, m.
        residual: add the input; None: where n = m, the paper's rule [M], and the convolution keeps h x w.
        batch_norm: before the addition, or behind it: relu(bn(conv(x) + x)).
        device, dtype: of the batch norm.
    Raises:
        UserError: residual=True between different numbers of channels, or maps of different sizes; another batch_norm.
    """

    layer_backend = "auto"

    def __init__(
        self, conv: nn.Module, in_channels: int, out_channels: int, residual: bool | None = None, *,
        batch_norm: Literal["before", "behind"] = "before", device: Device = None, dtype: torch.dtype | None = None,
    ):  # fmt: skip
        super().__init__()
        same_size = keeps_size(conv)
        if residual and in_channels != out_channels:
            raise UserError(
                f"residual=true needs as many output as input channels, got {in_channels} -> {out_channels}; "
                "leave it out or set it to false"
            )
        if residual and not same_size:
            raise UserError("residual=true needs a convolution that keeps height and width; leave it out or set it to false")
        if batch_norm not in ("before", "behind"):
            raise UserError(f"batch_norm={batch_norm!r} must be before or behind; without batch norm: a bare SICConv2d, ...")
        self.conv = conv
        self.bn = nn.BatchNorm2d(out_channels, device=device, dtype=dtype)
        self.residual = same_size and in_channels == out_channels if residual is None else residual
        self.norm_behind = self.residual and batch_norm == "behind"

    def reset_parameters(self) -> None:
        """Draws new random weights, as the constructor does, and sets batch norm to its first state."""
        self.conv.reset_parameters()
        self.bn.reset_parameters()

    @stands_for
    def forward(self, x: Tensor) -> Tensor:
        modules: dict[str, Any] = self._modules  # as attributes they would take a tenth of a small layer's time
        conv, bn = modules["conv"], modules["bn"]
        if self.norm_behind:
            return F.relu(bn(conv(x) + x))
        plain_norm = takes_norm(bn)
        if plain_norm and isinstance(conv, HasOperator):
            if runs_operator(self, x, conv):
                return conv.layer_operator(x, x if self.residual else None, norm_of(bn))
            if runs_triton(self, x, conv, bn):
                return conv.triton_layer(x, x if self.residual else None, norm_of(bn))
        y = conv(x)
        if plain_norm and bn.training and runs_kernels(self, y) and are_plain([bn]):
            return ops.norm_relu.default(y, x if self.residual else None, *norm_of(bn))
        y = bn(y)
        return F.relu(y + x if self.residual else y)

    def extra_repr(self) -> str:
        return f"residual={self.residual}"


def build_layer(
    name: str, in_channels: int, out_channels: int, /, *, residual: bool | None = None,
    batch_norm: Literal["before", "behind"] = "before", **args: Any,
) -> ConvLayer:  # fmt: skip
    """The registered layer `name` with batch norm, residual connection and ReLU; `args` are the layer's own arguments.

    Raises:
        UserError: an unknown layer or argument (with the nearest name); a missing argument, or one that the layer refuses.
    """
    conv_class = LAYERS.get(name)
    check_arguments(name, conv_class, args)
    conv, device, dtype = conv_class(in_channels, out_channels, **args), args.get("device"), args.get("dtype")
    return ConvLayer(conv, in_channels, out_channels, residual, batch_norm=batch_norm, device=device, dtype=dtype)


def check_arguments(name: str, conv_class: type[nn.Module], args: dict[str, object]) -> None:
    """Raises UserError where Python would raise TypeError. Layers check sizes themselves."""
    types = get_type_hints(conv_class.__init__)
    known = {p.name: p for p in inspect.signature(conv_class).parameters.values() if not p.name.endswith("_channels")}
    for given, value in args.items():
        if given not in known:
            raise UserError(f"layer '{name}' has no argument '{given}': {did_you_mean(given, known)}")
        if given not in Geometry._fields and not isinstance(value, types.get(given, object)):
            kind = types[given].__name__ if isinstance(types[given], type) else str(types[given]).rpartition(".")[2]
            raise UserError(f"layer '{name}': {given}={value!r} is no {kind}")
    missing = [p.name for p in known.values() if p.default is p.empty and p.name not in args]
    if missing:
        raise UserError(f"layer '{name}' needs {', '.join(missing)}")
