"""Text that is safe and short on a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

MOST_NAMES = 5  # in a message


def printable(text: str) -> str:
    """`text` in one line, with an escape for each character that is not printable.

    Such are control characters, line ends, marks that change the direction of writing, and bytes of a file name that are not
    UTF-8. Printable characters of all scripts stay as they are.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listed(names: Sequence[str]) -> str:
    """'a', 'b' and 7 more: names for a message of one line."""
    rest = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(f"'{name}'" for name in names[:MOST_NAMES]) + rest


def paragraph(text: str) -> str:
    """A paragraph of prose for printing, as wide as the terminal; unchanged where the output goes elsewhere."""
    return textwrap.fill(text, _columns(), break_long_words=False, break_on_hyphens=False) if sys.stdout.isatty() else text


def clauses(text: str) -> str:
    """Clauses with commands for printing: one a line where a terminal is too narrow for all, so that commands stay whole."""
    return text.replace("; ", "\n  ") if sys.stdout.isatty() and len(text) > _columns() else text


def _columns() -> int:
    return shutil.get_terminal_size().columns


def duration(seconds: float) -> str:
    """A duration for people, such as 46 s, 12 min or 3.2 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def interval(low: float | None, high: float | None, form: str) -> str:
    """+0.77 to +1.63; nothing where there is none."""
    return "" if low is None else f"{low:{form}} to {high:{form}}"
