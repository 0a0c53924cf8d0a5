"""Memory that the kernels keep between calls: freed results for the next ones, and what each thread works in.

Fresh memory costs a page fault for every 4 KiB, which can take longer than the layer that fills it. At most 512 MiB are
kept in all, and of freed results no more than twice what was ever in use at once.
"""

from __future__ import annotations

import torch


def empty_cache() -> None:
    """Gives back to the system all that is kept: freed results, the working memory of this thread and of torch's."""
    if hasattr(torch.ops.efficientconv, "empty_cache"):  # the kernels are loaded
        torch.ops.efficientconv.empty_cache()


def kept_bytes() -> int:
    """How much is kept now, in bytes."""
    if hasattr(torch.ops.efficientconv, "kept_bytes"):
        return torch.ops.efficientconv.kept_bytes()
    return 0
