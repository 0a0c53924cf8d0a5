"""Numbers on a script's command line, for argparse."""

from __future__ import annotations

from argparse import ArgumentTypeError

MOST = 1_000_000


def positive(text: str) -> int:
    """Raises ArgumentTypeError, which argparse says in a line with the option's name."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= MOST):
        raise ArgumentTypeError(f"give a whole number from 1 to {MOST}, not '{text}'")
    return int(text)
