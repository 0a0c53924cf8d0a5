"""Text that is safe and short on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` in one line, with an escape for each character that is not printable.

    Such are control characters, line ends, marks that change the direction of writing, and bytes of a file name that are not
    UTF-8. Printable characters of all scripts stay as they are.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def duration(seconds: float) -> str:
    """A duration for people, such as 46 s, 12 min or 3.2 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def interval(low: float | None, high: float | None, form: str) -> str:
    """+0.77 to +1.63; nothing where there is none."""
    return "" if low is None else f"{low:{form}} to {high:{form}}"
