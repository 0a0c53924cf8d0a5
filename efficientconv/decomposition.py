"""A standard convolution as intra-channel filters and a projection.

The filters of an input channel, one for each output, are an m x k^2 matrix. The matrix's best approximation of rank b
(Eckart and Young) is b filters of k x k, and the share of each filter in each output. This is an unravelled convolution with
b bases: exact at b = k^2, and a SIC convolution at b = 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from efficientconv.layers import UnravelledConv2d


@torch.no_grad()
def start_from_weight(layer: UnravelledConv2d, weight: Tensor) -> float:
    """Gives `layer` the filters and the projection that come nearest to `weight`, m x n / groups x kh x kw.

    Filters of which a channel has no need (b beyond the rank) keep their values and get no share. Computed in double
    precision. Returns the relative error: the norm of what is left out over the norm of `weight`.
    """
    filters, shares = _best(weight, layer.bases, layer.groups)
    kept = shares.shape[-1]
    own = layer.depthwise.weight.reshape(layer.groups, -1, layer.bases, weight[0, 0].numel())
    own[:, :, :kept] = filters.to(own)
    layer.projection.weight.zero_()
    blocks = layer.projection.weight.reshape(layer.groups, weight.shape[0] // layer.groups, -1, layer.bases)
    blocks[..., :kept] = shares.transpose(1, 2).to(blocks)
    norm = weight.double().norm()
    return float((layer.dense_weight().double() - weight.double()).norm() / norm) if norm else 0.0


def _best(weight: Tensor, bases: int, groups: int) -> tuple[Tensor, Tensor]:
    """Filters, groups x n / groups x b x k^2, the strongest first, and shares, groups x n / groups x m / groups x b."""
    m, inputs = weight.shape[:2]
    matrices = weight.double().reshape(groups, m // groups, inputs, -1).transpose(1, 2)
    shares, strengths, filters = torch.linalg.svd(matrices, full_matrices=False)
    root = strengths[..., :bases].sqrt()  # on both sides, so that neither learns faster than the other
    return filters[..., :bases, :] * root[..., None], shares[..., :bases] * root[..., None, :]
