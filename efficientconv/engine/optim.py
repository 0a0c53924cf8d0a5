"""The optimizer and its parameter groups."""

from __future__ import annotations

import torch
from torch import nn

from efficientconv.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """SGD whose weight decay leaves out batch norm and biases, all that has fewer than two dimensions, if not asked [D]."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    of_others = config.weight_decay if config.decay_norms else 0.0
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": of_others}]
    # fused on a GPU: one launch for all weights, and fp16's check for overflow stays there, without a wait
    fused = all(p.is_cuda for p in model.parameters())
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused or None)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
