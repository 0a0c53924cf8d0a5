"""What the images of a set are, wherever they lie and however their place is spelt."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from efficientconv.config import OWN_SETS, DataConfig
from efficientconv.data.dataset import DataSet, FileSplit, Split, root_of
from efficientconv.data.image_files import content_of
from efficientconv.data.prepared import PreparedSplit

T = TypeVar("T")

# Of how many files, evenly spaced, more than the name is looked at: a start is not to wait for a disk of a million images.
SIZES, CONTENTS = 10_000, 100


@dataclass(frozen=True)
class Images:
    """A digest of those to train on, the held-out ones among them, and one of those of the test."""

    train: str
    test: str
    pixels: str  # which copies they are: DataSet.pixels
    own: bool  # the user's collection: its images say which run it is, where for others the set's name does


def fingerprint(data: DataSet, config: DataConfig) -> Images:
    """Of the set as its function in DATA_SETS finds it: nothing held out, no file decoded."""
    return Images(digest_of(data.train, config), digest_of(data.test, config), data.pixels, data.name in OWN_SETS)


def digest_of(split: Split, config: DataConfig) -> str:
    """Of the images of one split, before any is decoded."""
    digest = sha256(str(len(split)).encode())
    if isinstance(split, FileSplit):
        for part in _of_files(split.files.tolist(), os.fsencode(f"{root_of(config)}{os.sep}")):
            digest.update(part)
    elif isinstance(split, PreparedSplit):
        digest.update(split.records.view("u1"))  # each image's name and checksum
    else:
        digest.update(split.labels.numpy())  # the images follow from the set and the configuration
    return digest.hexdigest()[:16]


def _of_files(paths: list[bytes], place: bytes) -> Iterable[bytes]:
    """Names as they lie at the place, in order; then what some of the files are."""
    yield b"\0".join(path.removeprefix(place) for path in paths)
    for path in spaced(paths, SIZES):
        yield _size(path)
    for path in spaced(paths, CONTENTS):
        yield _content(path)


def spaced(values: list[T], most: int) -> list[T]:
    """At most so many of them, evenly spaced."""
    return values[:: -(-len(values) // most) or 1]


def _size(path: bytes) -> bytes:
    try:
        return os.stat(path).st_size.to_bytes(8, "little")
    except OSError:
        return b"unreadable"  # a damaged image, which training replaces


def _content(path: bytes) -> bytes:
    try:
        return sha256(content_of(path)).digest()
    except OSError:
        return b"unreadable"
