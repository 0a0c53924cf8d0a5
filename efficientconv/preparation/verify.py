"""Decodes every image file of a data set once, and writes the findings as rows of a manifest."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import IO

from efficientconv.csv_files import csv_text
from efficientconv.data.damage import DamagedImage, unreadable_named
from efficientconv.data.decode import header_of, read_rgb
from efficientconv.data.image_files import content_of
from efficientconv.data.parallel import in_parallel
from efficientconv.errors import UserError
from efficientconv.files import make_folder, replacing


@dataclass
class Finding:
    """The facts of one image file. Unknown facts are empty."""

    path: str
    bytes: int | None = None
    sha256: str = ""
    width: int | None = None
    height: int | None = None
    mode: str = ""  # as PIL names it: RGB, L, CMYK, ...
    damage: str = ""  # why the image can't be read; empty: it is sound


def check_images(paths: list[str]) -> Generator[list[Finding], None, None]:
    """The findings of all files, in order, in groups. Close the generator if the loop over it can end early."""
    return in_parallel(_check_chunk, paths)


def _check_chunk(paths: list[str]) -> list[Finding]:
    return [_check(path) for path in paths]


def _check(path: str) -> Finding:
    found = Finding(path)
    try:
        with unreadable_named(path):
            content = content_of(path)
        found.bytes, found.sha256 = len(content), sha256(content).hexdigest()
        (found.width, found.height), found.mode = header_of(path)
        read_rgb(path)
    except DamagedImage as error:
        found.damage = error.reason
    return found


class Manifest:
    """A CSV file of findings, with one row for each image. It replaces an earlier file only when it is complete."""

    def __init__(self, file: IO[str], root: Path):
        self._file, self._root = file, root
        file.write(csv_text([["split", *(field.name for field in fields(Finding))]]))

    def add(self, split: str, findings: Iterable[Finding]) -> None:
        """Adds rows, with paths relative to the root."""
        rows = [(split, os.path.relpath(path, self._root), *rest) for path, *rest in map(astuple, findings)]
        self._file.write(csv_text(rows))


@contextmanager
def manifest_at(path: Path, root: Path) -> Iterator[Manifest]:
    """The manifest at `path`. Raises UserError if `path` is in the data folder or cannot be written."""
    if path.resolve().is_relative_to(root.resolve()) or path.is_dir():
        raise UserError(f"manifest={path} is a folder or in the data folder '{root}': name a file elsewhere")
    try:
        make_folder(path.parent)
        with replacing(path, "t", encoding="utf-8", newline="") as file:
            yield Manifest(file, root)
    except OSError as error:
        raise UserError(f"cannot write the manifest '{path}' ({error.strerror}): set manifest=<another file>") from None
