"""What stands on a script's command line: read for argparse, or refused before the work begins."""

from __future__ import annotations

import os
import re
from argparse import ArgumentTypeError
from pathlib import Path

from efficientconv.errors import UserError
from efficientconv.files import make_folder, refused_in_one_line

MOST = 1_000_000


def positive(text: str) -> int:
    """Raises ArgumentTypeError, which argparse says in a line with the option's name."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= MOST):
        raise ArgumentTypeError(f"give a whole number from 1 to {MOST}, not '{text}'")
    return int(text)


def file_name(text: str) -> str:
    """Of a file or folder inside another. Raises ArgumentTypeError."""
    if not re.fullmatch(r"\w[\w.+-]{,99}", text):
        raise ArgumentTypeError(f"give a name of letters, digits and . _ + -, not '{text}'")
    return text


def require_writable(folder: Path) -> None:
    """Makes the folder. Raises UserError, before hours of work, where nothing can be written into it."""
    with refused_in_one_line(f"make the folder {folder}", "choose another"):
        make_folder(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"cannot write into the folder {folder}; choose another")
