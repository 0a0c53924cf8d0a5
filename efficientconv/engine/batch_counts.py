"""How many batches each batch norm has seen: counted on a GPU by one launch a pass, not by one each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """Those that count, and need their count for nothing but the checkpoint: their momentum is a number."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    return [norm for norm in norms if norm.num_batches_tracked is not None and norm.momentum is not None]


@contextmanager
def batches_counted(norms: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    """Around a pass in training: the counters are out of their sight meanwhile, and go up by one all together."""
    training = [norm for norm in norms if norm.training]
    counts: list[Tensor] = [norm._buffers["num_batches_tracked"] for norm in training]
    for norm in training:
        norm._buffers["num_batches_tracked"] = None
    try:
        yield
    finally:
        for norm, number in zip(training, counts):
            norm._buffers["num_batches_tracked"] = number
    if counts:
        torch._foreach_add_(counts, 1)
