"""Text from elsewhere (names of files, of runs, reasons) made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` in one line, each character that would act on a terminal or on the text around it as its escape.

    Those are control characters, line ends, marks that turn the direction of writing, and bytes of a file name that are no
    UTF-8. What is printable, in whatever script, stays as it is.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def duration(seconds: float) -> str:
    """For people: 46 s, 12 min, 3.2 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"
