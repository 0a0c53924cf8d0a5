"""The MACs of an operation of torch: a number, 0, or unknown."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten

# Operations that multiply nothing by the convention of complexity.py, beside those that torch marks as element by element,
# as reductions or as views. A trailing underscore (in place) is left out.
_FREE = frozenset("""
    _adaptive_avg_pool2d _adaptive_avg_pool3d avg_pool2d avg_pool3d adaptive_max_pool2d adaptive_max_pool3d
    max_pool2d_with_indices max_pool3d_with_indices max_unpool2d max_unpool3d fractional_max_pool2d
    _native_batch_norm_legit _native_batch_norm_legit_no_training native_batch_norm native_layer_norm native_group_norm
    _weight_norm_interface _fused_rms_norm _softmax _safe_softmax _log_softmax hardswish hardtanh hardsigmoid elu celu
    selu leaky_relu glu rrelu_with_noise native_dropout upsample_nearest1d upsample_nearest2d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact2d upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa
    upsample_bicubic2d _upsample_bicubic2d_aa upsample_trilinear3d grid_sampler_2d grid_sampler_3d _unsafe_view
    _reshape_alias unsafe_split unsafe_split_with_sizes unsafe_chunk as_strided resize set cat stack copy _to_copy
    lift_fresh constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
    replication_pad3d roll flip repeat pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle im2col
    col2im tril triu diag_embed index index_select index_put _unsafe_index gather scatter scatter_add masked_scatter
    slice_scatter select_scatter embedding sort topk cumsum cumprod unfold_backward empty empty_like empty_strided
    new_empty new_empty_strided new_zeros new_ones new_full zeros zeros_like ones ones_like full full_like scalar_tensor
    arange linspace eye zero fill normal uniform bernoulli rand randn rand_like randn_like randint randperm
""".split())  # fmt: skip

Formula = Callable[..., int]  # called with the operation's arguments and out_val, its output: FLOPs


def formulas() -> dict[object, Formula]:
    """Formulas for torch's operations that multiply: torch's own, and those of products with a vector, which torch lacks."""
    beyond = {aten.mv: _vector_flops, aten.dot: _vector_flops, aten.vdot: _vector_flops, aten.addmv: _added_vector_flops}
    return FlopCounterMode(display=False, custom_mapping=beyond).flop_registry


@cache
def is_free(operation: torch._ops.OpOverload) -> bool:
    if operation.is_view or {torch.Tag.pointwise, torch.Tag.reduction} & set(operation.tags):
        return True
    packet = operation._overloadpacket
    return operation.namespace == "aten" and packet.__name__.rstrip("_") in _FREE


def _vector_flops(left: tuple[int, ...], right: tuple[int, ...], **_: object) -> int:
    return 2 * math.prod(left)


def _added_vector_flops(added: tuple[int, ...], matrix: tuple[int, ...], vector: tuple[int, ...], **_: object) -> int:
    return 2 * math.prod(matrix)
