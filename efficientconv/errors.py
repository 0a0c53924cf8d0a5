"""The exception for mistakes that a user can correct.

Commands print it as one line and end with a non-zero exit code. Any other exception is a bug of this project, and keeps its
traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


class UserError(ValueError):
    """A mistake of the user. The message says in one line what was wrong, where, and what to do."""

    exit_code = 2


@contextmanager
def of_extra(name: str) -> Iterator[None]:
    """For imports inside the block that an extra of this package installs. Raises UserError if it is not installed."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "efficientconv").partition(".")[0] == "efficientconv":
            raise
        raise UserError(f"{missing.name} is not installed: pip install 'efficientconv[{name}]'") from missing


def did_you_mean(name: str, known: Iterable[str], section: str = "") -> str:
    """`did you mean 'x'? known: a, b, x`, for the end of an error message about an unknown name.

    section: stands before each name, and says nothing about which of them was meant.
    """
    names = sorted(known)
    alike = [other for other in names if other.lower() == str(name).lower()]  # the pages say model C, its name is c
    near = alike or difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean '{section}{near[0]}'? " if near else ""
    return f"{hint}known: {', '.join(section + other for other in names)}"


def require_network(model: object, where: str) -> None:
    """Raises UserError if `model` is no network: a name, what makes networks, or a dictionary of weights."""
    from torch import nn  # here: torch takes seconds

    if not isinstance(model, nn.Module):
        kind = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise UserError(
            f"{where}: the model is no network, but {kind}; give a torch.nn.Module, such as ec.create_model('c')"
        )


def refuse_frozen(model: nn.Module, what: str) -> None:
    """Raises UserError if `model` is, or contains, a copy that `freeze` made."""
    if any(getattr(module, "is_frozen", False) for module in model.modules()):
        raise UserError(f"a frozen network cannot be {what}; take the network that it was made of")
