"""nn.Conv2d's arguments, checked once, and the attributes that layers share with nn.Conv2d.

What nn.Conv2d refuses is refused in its words, and with the values. Other wrong sizes it does not see, or it fails inside.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import nn

from efficientconv.errors import UserError
from efficientconv.layers.backend import HasOperator

Pair = tuple[int, int]  # rows, columns
Size = int | Pair
Padding = int | Pair | str
Device = torch.device | str | int | None

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
ONES: Pair = (1, 1)
LARGEST = 2**31 - 1  # torch's sizes have 64 bits, and products of two sizes must fit
KEEPING_SIZE: dict[tuple[int, ...], Pair] = {(k, k): (k // 2, k // 2) for k in range(1, 64, 2)}  # padding by kernel


class Geometry(NamedTuple):
    """How a convolution goes over a map, in nn.Conv2d's names and order; `geometry` makes it."""

    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    padding_mode: str


def geometry(kernel_size: Size, stride: Size, padding: Padding, dilation: Size, padding_mode: str) -> Geometry:
    """The arguments as pairs.

    Args:
        padding: "same" pads both sides so that h x w stays; with a stride there are ceil(h / stride) rows, as in ResNets.
            "valid" is no padding.
    Raises:
        UserError: a size that is out of range or no whole number; an unknown padding or padding mode; a kernel with an even
            side under "same".
    """
    kernel, steps, spread = pair("kernel_size", kernel_size), pair("stride", stride), pair("dilation", dilation)
    if padding_mode not in PADDING_MODES:
        raise UserError(f"padding_mode must be one of {', '.join(PADDING_MODES)}, but got padding_mode={padding_mode!r}")
    return Geometry(kernel, steps, _padding(padding, kernel, spread), spread, padding_mode)


def is_whole(value: object) -> bool:
    """Whether `value` is a whole number. A bool is not: torch takes it for some sizes and fails on others."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def pair(name: str, value: object, least: int = 1) -> Pair:
    """`value` as a pair: a number stands twice. Raises UserError."""
    given = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(given) != 2 or not all(map(is_whole, given)):
        raise UserError(f"{name}={value!r} is no int or pair of ints")
    if min(given) < least:
        raise UserError(f"{name}={value!r} is out of range; choose {least} or more")
    if max(given) > LARGEST:
        raise UserError(f"{name}={value!r} is out of range; choose {LARGEST} or less")
    return int(given[0]), int(given[1])


def check_channels(in_channels: int, out_channels: int) -> None:
    """Raises UserError unless both numbers of channels are whole and positive."""
    for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
        if not is_whole(value) or value < 1:
            raise UserError(f"{name}={value!r} is out of range; choose a whole number, 1 or more")


def check_groups(groups: int, in_channels: int, out_channels: int) -> None:
    """Raises UserError unless `groups` divides both numbers of channels."""
    if not is_whole(groups) or groups < 1:
        raise UserError(f"groups must be a positive integer, but got groups={groups!r}")
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % groups:
            raise UserError(
                f"{name} must be divisible by groups, but got {name}={channels}, groups={groups}; choose a divisor, or a "
                "width that makes it one"
            )


def out_size(conv: nn.Conv2d | Conv2dAttributes, h: int, w: int) -> Pair:
    """Rows and columns of the output for an input of h x w."""
    sizes = zip((h, w), conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    rows, columns = ((size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in sizes)
    return rows, columns


def keeps_size(conv: nn.Module) -> bool:
    """Whether h x w maps stay h x w. A layer may say so itself; a module that is no convolution is taken to keep them."""
    if hasattr(conv, "keeps_size") or not isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d, Conv2dAttributes)):
        return bool(getattr(conv, "keeps_size", True))
    if conv.padding == "same":
        return True
    padding = (0, 0) if conv.padding == "valid" else conv.padding
    added = [d * (k - 1) + more for k, d, more in zip(conv.kernel_size, conv.dilation, conv.output_padding)]
    return conv.stride == ONES and [2 * p for p in padding] == added


def fits_operator(conv: nn.Conv2d | Conv2dAttributes) -> bool:
    """Whether operators compute this convolution: k x k, k odd, stride 1, no dilation, padded with zeros, without bias.

    Each call asks anew, because users adapt networks by writing to the attributes of convolutions.
    """
    return (
        conv.padding == KEEPING_SIZE.get(conv.kernel_size) and conv.stride == ONES and conv.dilation == ONES
        and conv.padding_mode == "zeros" and conv._parameters.get("bias", conv) is None
        and conv._parameters.get("weight") is not None
    )  # fmt: skip


def is_projection(conv: nn.Conv2d | Conv2dAttributes) -> bool:
    """Whether `conv` is 1 x 1 over all channels, and operators compute it."""
    return conv.kernel_size == ONES and conv.groups == 1 and fits_operator(conv)


class Conv2dAttributes(HasOperator):
    """nn.Conv2d's attributes and repr, for layers that consist of other modules or have a weight of another shape."""

    groups = 1
    output_padding = (0, 0)

    def __init__(self, in_channels: int, out_channels: int, sizes: Geometry):
        check_channels(in_channels, out_channels)
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding, self.dilation, self.padding_mode = sizes

    def reset_parameters(self) -> None:
        """Draws new random weights, as the constructor does."""
        for part in self.children():
            part.reset_parameters()

    def extra_repr(self: Any) -> str:  # no nn.Conv2d, but with the attributes that its repr reads
        return nn.Conv2d.extra_repr(self)


def _padding(padding: Padding, kernel: Pair, dilation: Pair) -> Pair:
    if padding == "valid":
        return 0, 0
    if padding != "same":
        if isinstance(padding, str):
            raise UserError(f"Invalid padding string {padding!r}, should be one of same, valid, or an int or pair of ints")
        return pair("padding", padding, least=0)
    reach = [d * (k - 1) for k, d in zip(kernel, dilation)]
    if any(r % 2 for r in reach):
        size = kernel[0] if kernel[0] == kernel[1] else kernel
        raise UserError(
            f"kernel_size={size} cannot keep the size of the feature map; choose an odd one, or padding other than 'same'"
        )
    return reach[0] // 2, reach[1] // 2
