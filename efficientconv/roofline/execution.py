"""Three ways to run a step: as torch runs it, compiled, and with one kernel for each layer (fused).

R and W stand for the maps that a pass reads and writes.
"""

from __future__ import annotations

from collections.abc import Callable

from efficientconv.layers import SpatialBottleneckConv2d
from efficientconv.layers.unravelled import UnravelledConv2d
from efficientconv.roofline.step import LayerMaps, Step
from efficientconv.roofline.work import Work

_COMPILED_AWAY = ("elementwise", "batch_norm")
_NO_LAYERS = ("product", "pool", "optimizer")
# The gradients of maps and of weights, and the layer computed once more, because its inner maps are not kept.
BACKWARD_FLOPS = 3


def eager(step: Step) -> list[Work]:
    """Every operation of the reference reads its inputs and writes its outputs."""
    return step.operations


def compiled(step: Step) -> list[Work]:
    """Convolutions, products and pools stay the same. Batch norm, residual connection and ReLU take two passes each way."""
    kept = [work for work in step.operations if work.kind not in _COMPILED_AWAY]
    if not step.training:
        return kept + [_apply(maps) for maps in step.layers]
    return kept + [work for maps in step.layers for work in [_pass(maps, 1), _apply(maps), *_norm_backward(maps)]]


def fused(step: Step) -> list[Work]:
    """A layer of depthwise filters and projections is one kernel forward and one backward. Only connections are computed.

    Other convolutions take the batch's statistics in their epilogue. In inference every layer is one kernel.
    """
    others = [work for work in step.operations if work.kind in _NO_LAYERS]
    if not step.training:
        return others + [_whole(maps) for maps in step.layers]
    first = None if step.alone else step.layers[0]
    return others + [w for maps in step.layers for w in (_fused(maps) if _fuses(maps) else _plain(maps, maps is first))]


def least(step: Step) -> Work:
    """The whole pass as one piece of work: the least that any execution layer by layer needs.

    It is a fused pass in which the backward pass computes no layer once more.
    """
    works = fused(step)
    again = sum(maps.flops for maps in step.layers if step.training and _fuses(maps))
    return Work("convolution", sum(work.flops for work in works) - again, sum(work.bytes for work in works))


def least_passes(step: Step) -> tuple[Work, Work]:
    """`least` of single layers in training, as (forward, backward). Forward ends after batch norm and ReLU."""
    works = [work for maps in step.layers for work in (_whole(maps), _apply(maps))]
    forward, both = Work("convolution", sum(w.flops for w in works), sum(w.bytes for w in works)), least(step)
    return forward, Work("convolution", both.flops - forward.flops, both.bytes - forward.bytes)


def _whole(maps: LayerMaps) -> Work:
    return Work("convolution", maps.flops, maps.bytes_in + maps.bytes_weights + maps.bytes_out)


def _fuses(maps: LayerMaps) -> bool:
    return isinstance(maps.conv, (UnravelledConv2d, SpatialBottleneckConv2d))


def _fused(maps: LayerMaps) -> list[Work]:
    """R x, W y and its statistics; R y, R x, W out. Backward: R dy, R out, R y for the sums, R dy, R out, R y, R x, W dx."""
    moved = 3 * maps.bytes_out + 2 * maps.bytes_in + 2 * maps.bytes_weights
    backward = Work("convolution", BACKWARD_FLOPS * maps.flops, moved)
    return [_whole(maps), _apply(maps), _sums(maps), backward]


def _plain(maps: LayerMaps, first: bool) -> list[Work]:
    """`first`: the network's first layer, whose input is the images. The images need no gradient."""
    return [_whole(maps), _apply(maps), *_norm_backward(maps), *[_whole(maps)] * (1 if first else 2)]


def _apply(maps: LayerMaps) -> Work:
    return _pass(maps, 2 + _residual(maps))


def _norm_backward(maps: LayerMaps) -> list[Work]:
    """R R R for the sums, R R R W for the gradient, and R W for the gradient of a residual connection."""
    gradient = _pass(maps, 4)
    return [_sums(maps), gradient, _pass(maps, 2)] if _residual(maps) else [_sums(maps), gradient]


def _sums(maps: LayerMaps) -> Work:
    return _pass(maps, 3)


def _pass(maps: LayerMaps, times: int) -> Work:
    return Work("elementwise", 0, times * maps.bytes_out)


def _residual(maps: LayerMaps) -> int:
    return int(maps.layer.residual)


EXECUTIONS: dict[str, Callable[[Step], list[Work]]] = {"eager": eager, "compiled": compiled, "fused": fused}
