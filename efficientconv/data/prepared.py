"""A prepared set: images that were decoded, resized and encoded once, in a few large files with random access.

    prepared.json            the source, the recipe, and the SHA-256 of each other file; written last
    train.npy, val.npy       one record for each image: its name, label, shape, and the place of its bytes
    train-00000.zip, ...     the images, stored in plain ZIP archives that any tool opens

A ZIP archive keeps each image's name and CRC-32. The records give the place of an image's bytes, because parsing the
directories of the archives would take half a minute and a gigabyte in each process.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict, dataclass
from hashlib import sha256
from io import FileIO
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from torch import Tensor

from efficientconv.data.damage import DamagedImage, unreadable_named
from efficientconv.data.resize import Resize
from efficientconv.errors import UserError
from efficientconv.files import read_bytes

FORMAT = 1
MANIFEST, UNFINISHED = "prepared.json", "preparing.json"
PARTS = ("train", "val")


def record_type(name_bytes: int) -> np.dtype:
    """The type of a record: `file` is the number of the archive, `offset` and `size` are bytes, `crc` is CRC-32."""
    fields = [("label", "<i4"), ("file", "<i4"), ("offset", "<i8"), ("size", "<i8"), ("crc", "<u4")]
    return np.dtype([("name", f"S{name_bytes}"), *fields, ("height", "<i4"), ("width", "<i4")])


@dataclass(frozen=True)
class Recipe:
    """How the images were made. The same recipe, images and libraries give sets that are equal to the byte."""

    resize_size: int
    resize_rule: str  # both or shorter: data.resize_rule
    encoding: str  # jpeg or raw (uint8 height x width x 3)
    quality: int | None  # of the JPEGs

    @property
    def resize(self) -> Resize:
        return Resize(self.resize_size, self.resize_rule)

    def __str__(self) -> str:
        return f"{self.resize}, " + (f"JPEG of quality {self.quality}" if self.encoding == "jpeg" else "raw pixels")


@dataclass(frozen=True)
class PreparedManifest:
    """prepared.json."""

    recipe: Recipe
    images: str  # SHA-256 of the images' names, in order
    classes: list[str]
    subset: bool  # not checked against ImageNet's official counts
    counts: dict[str, int]  # images, by split
    files: dict[str, dict]  # bytes and sha256, by name
    made_with: dict[str, str | None]  # versions
    format: int = FORMAT
    contents: str | None = None  # SHA-256 of the content of some images (preparation/source.py); earlier versions: None

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @staticmethod
    def read(root: Path, parts: tuple[str, ...] = PARTS) -> tuple[PreparedManifest, str]:
        """(the manifest, the first digits of its SHA-256). Raises UserError unless all files of `parts` are complete."""
        if (root / UNFINISHED).exists():
            raise UserError(
                f"'{root}' is half prepared: to continue, run scripts/prepare_imagenet.py again with the same arguments"
            )
        content = read_bytes(root / MANIFEST) or b""
        try:
            values = json.loads(content)
            recipe, classes, files = Recipe(**values["recipe"]), list(values["classes"]), dict(values["files"])
            manifest = PreparedManifest(**values | {"recipe": recipe, "classes": classes, "files": files})
            sizes = {name: expected["bytes"] for name, expected in manifest.files.items() if name.startswith(parts)}
        except (ValueError, KeyError, TypeError):
            raise UserError(f"'{root / MANIFEST}' is damaged: copy it again, or prepare the set again") from None
        if manifest.format != FORMAT:
            raise UserError(f"'{root}' has format {manifest.format}, this code reads {FORMAT}: prepare the set again")
        for name, expected_bytes in sizes.items():
            _require_size(root / name, expected_bytes)
        return manifest, sha256(content).hexdigest()[:12]


class Archives:
    """The ZIP files of a split, opened at their first read. Reads have no position, so that a fork may share them."""

    def __init__(self, paths: list[Path]):
        self.paths = paths
        self._open: dict[int, FileIO] = {}

    def read(self, file: int, offset: int, size: int) -> np.ndarray:
        """`size` bytes as uint8; fewer at the end of a file."""
        if file not in self._open:
            self._open[file] = open(self.paths[file], "rb", buffering=0)
        buffer = np.empty(size, np.uint8)
        return buffer[: os.preadv(self._open[file].fileno(), [buffer.data], offset)]


@dataclass(frozen=True)
class PreparedSplit:
    """Images of a prepared set: their records, in the order of the folders, and `labels` (int64, N)."""

    archives: Archives
    encoding: str
    records: np.ndarray
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> PreparedSplit:
        return PreparedSplit(self.archives, self.encoding, self.records[indices.numpy()], self.labels[indices])

    def name(self, index: int) -> str:
        record = self.records[index]
        return f"{self.archives.paths[record['file']]}:{os.fsdecode(record['name'])}"

    def pixels(self, index: int) -> np.ndarray:
        """uint8 H x W x 3. Raises DamagedImage if any bit has changed since the set was made."""
        record = self.records[index]
        with unreadable_named(self.name(index)):
            content = self.archives.read(record["file"], int(record["offset"]), int(record["size"]))
        if zlib.crc32(content.data) != record["crc"]:
            raise DamagedImage(self.name(index), "its bytes are not those that were written")
        if self.encoding == "raw":
            return content.reshape(record["height"], record["width"], 3)
        return simplejpeg.decode_jpeg(content)


def read_split(root: Path, manifest: PreparedManifest, part: str) -> PreparedSplit:
    """All images of `part` (train or val). Raises UserError for damaged records."""
    names = [name for name in sorted(manifest.files) if name.startswith(f"{part}-")]
    try:
        records = np.load(root / f"{part}.npy", mmap_mode="r")  # the same pages for all processes
        sound = _is_sound(records, manifest, [manifest.files[name]["bytes"] for name in names])
    except (ValueError, OSError, IndexError):
        sound = False
    if not sound:
        raise UserError(f"'{root / part}.npy' is damaged: copy it again, or prepare the set again")
    archives, labels = Archives([root / name for name in names]), torch.from_numpy(records["label"].astype("i8"))
    return PreparedSplit(archives, manifest.recipe.encoding, records, labels)


def _is_sound(records: np.ndarray, manifest: PreparedManifest, archive_bytes: list[int]) -> bool:
    """Whether the class and the bytes of each record exist. Raises ValueError or IndexError for malformed records."""
    first, size = records["offset"], records["size"]
    there = (first >= 0) & (size >= 0) & (size <= np.array(archive_bytes)[records["file"]] - first)
    there &= (records["file"] >= 0) & (records["label"] >= 0) & (records["label"] < len(manifest.classes))
    if manifest.recipe.encoding == "raw":
        there &= size == 3 * records["height"].astype("i8") * records["width"]
    return bool(there.all())


def sha256_of(path: Path) -> str:
    digest = sha256()
    with open(path, "rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def is_prepared(root: Path) -> bool:
    """Whether `root` holds a prepared set, complete or not."""
    return (root / MANIFEST).exists() or (root / UNFINISHED).exists()


def _require_size(path: Path, expected_bytes: int) -> None:
    size = path.stat().st_size if path.exists() else None
    if size != expected_bytes:
        found = "is missing" if size is None else f"has {size} bytes"
        raise UserError(f"'{path}' {found}, not the {expected_bytes} of {MANIFEST}: copy it again, or prepare the set again")
