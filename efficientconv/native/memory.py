"""Memory that the kernels keep between calls: freed results, for the next results, and the plans of topologies.

Fresh memory costs a page fault for every 4 KiB, which can take longer than the layer that fills it. At most 512 MiB of
results are kept, and at most twice the most memory that results ever used at once. The plans (csrc/plan.h) take two to
three times the memory of the layers' weights. At most 512 MiB of plans are kept.
"""

from __future__ import annotations

import torch


def empty_cache() -> None:
    """Gives the memory back to the system that the native CPU kernels keep for their next calls: at most 1 GiB."""
    if hasattr(torch.ops.efficientconv, "empty_cache"):  # the kernels are loaded
        torch.ops.efficientconv.empty_cache()


def kept_bytes() -> int:
    """The kept memory, in bytes."""
    if hasattr(torch.ops.efficientconv, "kept_bytes"):
        return torch.ops.efficientconv.kept_bytes()
    return 0
