"""A whole layer, batch norm, residual and ReLU included, in as few passes over memory as its kernels allow."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.native.functions import BatchNormAddReLU, Epilogue


def run_layer(conv: nn.Module, bn: nn.BatchNorm2d, x: Tensor, add_input: bool) -> Tensor:
    """relu(bn(conv(x)) + x), or without the + x. `conv` offers `native_infer(x, epilogue)` besides its forward."""
    x = x.contiguous()
    residual = x if add_input else None
    if _uses_batch_statistics(bn):
        return _train(conv(x), bn, residual)
    if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in (*conv.parameters(), *bn.parameters()))):
        y = bn(conv(x))
        return F.relu(y if residual is None else y + residual)
    scale, bias = _fold(bn)
    return conv.native_infer(x, Epilogue(scale, bias, residual, relu=True))


def _uses_batch_statistics(bn: nn.BatchNorm2d) -> bool:
    return bn.training or bn.running_mean is None


def _train(y: Tensor, bn: nn.BatchNorm2d, residual: Tensor | None) -> Tensor:
    count = y.numel() // y.shape[1]
    if count == 1 and bn.training:  # torch refuses it with a message that says so
        return F.relu(bn(y) if residual is None else bn(y) + residual)
    out, mean, var = BatchNormAddReLU.apply(y, residual, bn.weight, bn.bias, bn.eps)
    if bn.training and bn.track_running_stats:
        _update_running(bn, mean, var * (count / (count - 1)))
    return out


@torch.no_grad()
def _update_running(bn: nn.BatchNorm2d, mean: Tensor, var: Tensor) -> None:
    """What nn.BatchNorm2d does in training: a moving average, or with momentum None the average of all batches."""
    bn.num_batches_tracked.add_(1)
    share = bn.momentum if bn.momentum is not None else 1 / float(bn.num_batches_tracked)
    bn.running_mean.lerp_(mean, share)
    bn.running_var.lerp_(var, share)


@torch.no_grad()
def _fold(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(scale, bias) of batch norm with its running statistics, m each."""
    scale = torch.rsqrt(bn.running_var + bn.eps)
    if bn.weight is not None:
        scale = scale * bn.weight
    bias = -bn.running_mean * scale
    return scale, bias if bn.bias is None else bias + bn.bias
