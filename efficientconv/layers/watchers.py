"""Who watches the calls of modules and operators. Torch says it by private names only; no other file uses those names.

torch.utils._python_dispatch.is_in_torch_dispatch_mode is no help: it is one flag for all threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook

Question = TypeVar("Question", bound=Callable[[], bool])


def constant(question: Question) -> Question:
    """Decorator: torch.compile asks once. torch.compiler.assume_constant_result imports the compiler, which is slow."""
    question._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return question


def has_global_hooks() -> bool:
    """Whether there are hooks of all modules."""
    return _has_any_global_hook()


@constant
def is_transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation sees the tensors."""
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def is_dispatched() -> bool:
    """Whether a mode of this thread sees the operators."""
    return torch._C._len_torch_dispatch_stack() > 0
