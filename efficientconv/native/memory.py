"""Memory that the kernels keep between calls: freed results, for the next results.

Fresh memory costs a page fault for every 4 KiB, which can take longer than the layer that fills it. At most 512 MiB are
kept. Freed results are at most twice the most memory that results ever used at once. The plans of topologies
(csrc/plan.h) are kept besides, and stay: they take two to three times the memory of a layer's weights.
"""

from __future__ import annotations

import torch


def empty_cache() -> None:
    """Gives the memory back to the system that the native CPU kernels keep for their next results: at most 512 MiB."""
    if hasattr(torch.ops.efficientconv, "empty_cache"):  # the kernels are loaded
        torch.ops.efficientconv.empty_cache()


def kept_bytes() -> int:
    """The kept memory, in bytes."""
    if hasattr(torch.ops.efficientconv, "kept_bytes"):
        return torch.ops.efficientconv.kept_bytes()
    return 0
