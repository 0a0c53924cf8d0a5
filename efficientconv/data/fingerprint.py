"""A fingerprint of a data set's images, which does not depend on the folder that they lie in."""

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

# Number of files, evenly spaced, whose size and whose content are read: more would delay a start with a million images.
SIZES, CONTENTS = 10_000, 100


@dataclass(frozen=True)
class Fingerprint:
    """Digests of the training images (with the held-out ones) and of the test images."""

    train: str
    test: str
    pixels: str  # DataSet.pixels
    own: bool  # the user's own images: a run's name depends on them. For other sets the name of the set is enough


def fingerprint_of(data: DataSet, config: DataConfig) -> Fingerprint:
    """The fingerprint of `data`, as its function in DATA_SETS returns it: nothing is held out, and no file is decoded."""
    return Fingerprint(digest_of(data.train, config), digest_of(data.test, config), data.pixels, data.name in OWN_SETS)


def digest_of(split: Split, config: DataConfig) -> str:
    """The digest of the images of one split, without decoding them."""
    digest = sha256(str(len(split)).encode())
    if isinstance(split, FileSplit):
        for part in _of_files(split.files.tolist(), os.fsencode(f"{root_of(config)}{os.sep}")):
            digest.update(part)
    elif isinstance(split, PreparedSplit):
        digest.update(split.records.view("u1").data)  # each image's name and checksum
    else:
        digest.update(split.labels.numpy().data)  # the set and the configuration determine the images
    return digest.hexdigest()[:16]


def _of_files(paths: list[bytes], place: bytes) -> Iterable[bytes]:
    """The names of all files, without the folder; then sizes and contents of some."""
    yield b"\0".join(path.removeprefix(place) for path in paths)
    for path in spaced(paths, SIZES):
        yield _size(path)
    for path in spaced(paths, CONTENTS):
        yield _content(path)


def spaced(values: list[T], most: int) -> list[T]:
    """At most `most` of the values, evenly spaced."""
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
