"""Reads the arguments of scripts, and refuses wrong ones before the work begins."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path

from efficientconv.errors import UserError
from efficientconv.files import make_folder, refused_in_one_line

MOST = 1_000_000


def positive(text: str) -> int:
    """A whole number from 1 to MOST. Raises ArgumentTypeError, which argparse prints with the option's name."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= MOST):
        raise ArgumentTypeError(f"give a whole number from 1 to {MOST}, not '{text}'")
    return int(text)


def file_name(text: str) -> str:
    """The name of a file or folder, without a path. Raises ArgumentTypeError."""
    from efficientconv import validation  # here: pydantic takes 0.2 s

    try:
        return validation.file_name(text)
    except ValueError as error:
        raise ArgumentTypeError(f"'{text}' {error}") from None


def settings(given: Sequence[str], example: str) -> dict[str, str]:
    """The values of key=value arguments, by key; of several, the last, as in Hydra. Raises UserError."""
    values: dict[str, str] = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"'{setting}' is no key=value; write for example {example}")
        values[key] = value
    return values


def seeds(text: str) -> list[int]:
    """The seeds in a text such as 0,1,2. Raises UserError."""
    found = text.split(",")
    if not all(seed.isascii() and seed.isdigit() for seed in found) or len(set(map(int, found))) < len(found):
        raise UserError(f"seeds={text}: give whole numbers with commas, each once, for example seeds=0,1,2")
    return list(map(int, found))


def require_writable(folder: Path) -> None:
    """Makes the folder. Raises UserError if files cannot be written into it: better now than after hours of work."""
    with refused_in_one_line(f"make the folder {folder}", "choose another"):
        make_folder(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"cannot write into the folder {folder}; choose another")
