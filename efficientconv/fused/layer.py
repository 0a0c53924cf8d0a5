"""A whole layer as an operator, torch.ops.efficientconv.fused_layer: convolution, batch norm, residual connection, ReLU.

The convolution is depthwise filters and a projection (SIC), or cells reduced, projected and expanded (spatial bottleneck).
`sic_layer` and `spatial_bottleneck_layer` have the results of the operators in layers/operators.py, up to rounding. Under
autocast maps and projections have autocast's type; all else, and every sum, is float32. Gradients of gradients are not
supported.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import register_autograd, register_fake

from efficientconv.fused.filters import filter_gradients, filtered
from efficientconv.fused.norm import End
from efficientconv.fused.positions import by_tap
from efficientconv.fused.reduction import reduced, reduction_gradients
from efficientconv.layers.cells import as_autocast
from efficientconv.layers.operators import in_order, library, ops

INPUTS = "Tensor x, Tensor filters, Tensor weight, Tensor? expansion, Tensor? residual, Tensor gamma, Tensor beta"
library.define(
    f"fused_layer({INPUTS}, Tensor? mean, Tensor? var, bool own, bool training, float eps, int padding) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)
library.define(
    f"fused_layer_backward(Tensor grad, {INPUTS}, Tensor inner, Tensor projected, Tensor statistics, bool own, "
    "bool training, int padding) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def sic_layer(x: Tensor, filters: Tensor, weight: Tensor, padding: int, residual: Tensor | None, *norm: Any) -> Tensor:
    """weight: the projection's, dense, m x n x 1 x 1."""
    return _layer(x, filters, weight, None, padding, residual, *norm)


def spatial_bottleneck_layer(
    x: Tensor, reduction: Tensor, projection: Tensor, expansion: Tensor, stride: int, padding: int, residual: Tensor | None,
    *norm: Any,
) -> Tensor:  # fmt: skip
    return _layer(x, reduction, projection, expansion, padding, residual, *norm)


def _layer(
    x: Tensor, filters: Tensor, weight: Tensor, expansion: Tensor | None, padding: int, residual: Tensor | None,
    gamma: Tensor, beta: Tensor, mean: Tensor | None, var: Tensor | None, batches: Tensor | None, training: bool,
    momentum: float | None, eps: float,
) -> Tensor:  # fmt: skip
    own, of_batch = residual is x, training or mean is None
    if of_batch and x.numel() == x.shape[1]:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
    x, weight, *others = as_autocast(x, weight, *([] if own or residual is None else [residual]))
    out, _, _, statistics = ops.fused_layer.default(
        x, filters, weight, expansion, others[0] if others else None, gamma, beta, mean, var, own, of_batch, eps, padding
    )
    if training and mean is not None and var is not None:
        _update(mean, var, batches, statistics, momentum)
    return in_order(out, x)


@torch.no_grad()
def _update(mean: Tensor, var: Tensor, batches: Tensor | None, statistics: Tensor, momentum: float | None) -> None:
    """Updates the running statistics as nn.BatchNorm2d does; without a momentum they are the mean over all batches.

    batches: None where the trainer counts the batches of all layers together.
    """
    if batches is not None:
        batches.add_(1)
    share = 1 / float(batches) if momentum is None else momentum  # type: ignore[arg-type]  # no momentum: batches is given
    torch._foreach_lerp_([mean, var], [statistics[0].to(mean.dtype), statistics[2].to(var.dtype)], share)


def _end(
    projected: Tensor, expansion: Tensor | None, residual: Tensor | None, gamma: Tensor, beta: Tensor, x: Tensor, own: bool,
    padding: int,
) -> End:  # fmt: skip
    residual = x if own else None if residual is None else _behind(residual)
    if expansion is None:
        return End(projected, None, residual, gamma, beta, projected.shape[1:3])
    return End(projected, by_tap(expansion), residual, gamma, beta, x.shape[1:3], expansion.shape[2], padding)


def _forward(
    x: Tensor, filters: Tensor, weight: Tensor, expansion: Tensor | None, residual: Tensor | None, gamma: Tensor,
    beta: Tensor, mean: Tensor | None, var: Tensor | None, own: bool, training: bool, eps: float, padding: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The output, and for the gradients the maps before and after the projection, and batch norm's statistics."""
    x = _behind(x)
    inner = (filtered if expansion is None else reduced)(x, filters, padding)
    projected = (inner.flatten(0, 2) @ weight.flatten(1).t()).unflatten(0, inner.shape[:3])
    end = _end(projected, expansion, residual, gamma, beta, x, own, padding)
    if training:
        statistics = end.statistics(eps)
    else:
        statistics = torch.stack([mean.float(), (var.float() + eps).rsqrt(), var.float()])
    return _ahead(end.forward(statistics)), inner, projected, statistics


def _backward(
    grad: Tensor, x: Tensor, filters: Tensor, weight: Tensor, expansion: Tensor | None, residual: Tensor | None,
    gamma: Tensor, beta: Tensor, inner: Tensor, projected: Tensor, statistics: Tensor, own: bool, training: bool,
    padding: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients of the maps, in the maps' type; of filters, projection and expansion; of beta and gamma in one tensor."""
    grad, x = _behind(grad), _behind(x)
    end = _end(projected, expansion, residual, gamma, beta, x, own, padding)
    sums = end.sums(grad, statistics)
    dprojected, dexpansion = end.backward(grad, statistics, sums, training)
    rows = dprojected.flatten(0, 2)
    dweight = (rows.t() @ inner.flatten(0, 2)).view(weight.shape)
    dinner = (rows @ weight.flatten(1)).view(inner.shape)
    back = filter_gradients if expansion is None else reduction_gradients
    dx, dfilters = back(dinner, x, filters, padding, end, own, grad, statistics)
    return _ahead(dx), dfilters, dweight, dexpansion, sums


def _behind(maps: Tensor) -> Tensor:
    """B x n x H x W -> B x H x W x n, contiguous."""
    return maps.permute(0, 2, 3, 1).contiguous()


def _ahead(maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2)


def _shapes(x: Tensor, filters: Tensor, weight: Tensor, expansion: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    (batch, n, h, w), m, padding = x.shape, len(weight), rest[-1]
    if expansion is None:
        rows, columns = h + 2 * padding - filters.shape[2] + 1, w + 2 * padding - filters.shape[3] + 1
        h, w = rows, columns
    else:
        k = expansion.shape[2]
        rows, columns = (h + padding + k - 1) // k, (w + padding + k - 1) // k
    inner, projected = (x.new_empty(batch, rows, columns, channels) for channels in (n, m))
    return _ahead(x.new_empty(batch, h, w, m)), inner, projected, x.new_empty(3, m, dtype=torch.float32)


def _gradient_shapes(
    grad: Tensor, x: Tensor, filters: Tensor, weight: Tensor, expansion: Tensor | None, residual: Tensor | None,
    gamma: Tensor, beta: Tensor, *rest: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    (batch, n, h, w), m, taps = x.shape, len(weight), 0 if expansion is None else expansion[0].numel()
    dfilters, dexpansion, sums = (x.new_empty(size, dtype=torch.float32) for size in (filters.shape, (m, taps), (2, m)))
    return _ahead(x.new_empty(batch, h, w, n)), dfilters, weight.new_empty(weight.shape), dexpansion, sums


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    *tensors, _, _, own, training, _, padding = inputs
    out, *between = output
    ctx.mark_non_differentiable(*between)
    ctx.rest = own, training, padding
    ctx.save_for_backward(*tensors, *between, None if tensors[4] is None else out)


def _gradients(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    *saved, out = ctx.saved_tensors
    _, filters, _, expansion, _, gamma, beta, *_ = saved
    dx, dfilters, dweight, dexpansion, (dbeta, dgamma) = ops.fused_layer_backward.default(grad, *saved, *ctx.rest)
    dexpansion = None if expansion is None else dexpansion.view(expansion.shape).to(expansion.dtype)
    dresidual = None if out is None else torch.ops.aten.threshold_backward(grad, out, 0)
    maps = dx, dfilters.to(filters.dtype), dweight, dexpansion, dresidual
    return *maps, dgamma.to(gamma.dtype), dbeta.to(beta.dtype), *[None] * 6


for _name, _kernels, _fake in (("fused_layer", _forward, _shapes), ("fused_layer_backward", _backward, _gradient_shapes)):
    library.impl(_name, _kernels, "CompositeExplicitAutograd")
    register_fake(f"efficientconv::{_name}", _fake, lib=library)
register_autograd("efficientconv::fused_layer", _gradients, setup_context=_save, lib=library)
