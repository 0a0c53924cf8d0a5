"""One file of a prepared set: decodes, resizes and encodes images into a ZIP archive, and reads the archive back."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from efficientconv.data.damage import DamagedImage, unreadable_named
from efficientconv.data.decode import read_rgb
from efficientconv.data.prepared import Recipe, record_type, sha256_of
from efficientconv.errors import UserError
from efficientconv.files import replacing
from efficientconv.preparation.source import Item, contents_of

LOCAL_HEADER_BYTES, LENGTHS_AT = 30, 26  # of ZIP: before each image; in it, the lengths of its name and extra field


@dataclass(frozen=True)
class Archive:
    """The content of a finished file."""

    name: str
    records: np.ndarray  # labels and the number of the file are filled in by the set
    bytes: int
    sha256: str


def encoded(item: Item, recipe: Recipe) -> tuple[bytes, int, int]:
    """(content, height, width) of a prepared image, made by PIL alone, the reference. Raises DamagedImage."""
    name = item.file if item.size is None else f"{item.file}:{item.name}"
    with unreadable_named(name):
        content = item.read()
    image = read_rgb(name, content)
    rows, columns = recipe.resize.middle(image.height, image.width)
    if (rows.stop - rows.start, columns.stop - columns.start) != (image.height, image.width):
        image = image.crop((columns.start, rows.start, columns.stop, rows.stop))
    size = [recipe.resize_size] * (2 if recipe.resize_rule == "both" else 1)
    from torchvision.transforms.functional import resize  # here, because the import takes as long as torch's

    image = resize(image, size)
    if recipe.encoding == "raw":
        return image.tobytes(), image.height, image.width
    # Colours at full resolution: the usual half resolution blurs edges four times as much.
    return _jpeg(image, recipe.quality), image.height, image.width


def _jpeg(image: Image.Image, quality: int | None) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:4:4")
    return buffer.getvalue()


class _NotWhole(Exception):
    """The file that is being written must not replace the old one."""


def write_archive(path: Path, items: list[Item], recipe: Recipe, on_image: Callable[[], None]) -> list[DamagedImage]:
    """Writes the file, unless an image is damaged: then writes none, and returns the damaged images.

    `on_image` is called after each image.
    """
    damaged = []
    with suppress(_NotWhole), replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = contents_of(items).encode()
        for item in items:
            try:
                content, height, width = encoded(item, recipe)
            except DamagedImage as error:
                damaged.append(error)
            else:
                entry = zipfile.ZipInfo(_entry_name(item))  # of a fixed date: the same images give the same file
                entry.comment = f"{height} {width}".encode()
                archive.writestr(entry, content)
            on_image()
        if damaged:
            raise _NotWhole
    return damaged


def read_archive(path: Path, items: list[Item]) -> Archive:
    """Reads and checks every byte of a file. Raises UserError if it does not hold exactly these images."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries, damaged, made_of = archive.infolist(), archive.testzip(), archive.comment.decode(errors="replace")
    except zipfile.BadZipFile:
        entries, damaged, made_of = [], path.name, ""
    if damaged or [entry.filename for entry in entries] != [_entry_name(item) for item in items]:
        raise UserError(f"'{path}' is damaged or of another set: delete it and run this again")
    if made_of not in ("", contents_of(items)):  # "": by an earlier version, which did not note it
        raise UserError(f"'{path}' was made of other images of the same names: name a new folder, or delete it")
    with open(path, "rb") as file:
        records = np.zeros(len(entries), record_type(max(len(os.fsencode(_entry_name(item))) for item in items)))
        for record, entry in zip(records, entries):
            height, width = map(int, entry.comment.split())
            name, offset = os.fsencode(entry.filename), _offset(file, entry)
            record["name"], record["offset"], record["size"], record["crc"] = name, offset, entry.file_size, entry.CRC
            record["height"], record["width"] = height, width
    return Archive(path.name, records, os.path.getsize(path), sha256_of(path))


def _entry_name(item: Item) -> str:
    """The image's name in the archive, in UTF-8: other bytes of a file name become escapes."""
    return item.name.encode(errors="backslashreplace").decode()


def _offset(file: io.BufferedReader, entry: zipfile.ZipInfo) -> int:
    file.seek(entry.header_offset + LENGTHS_AT)
    return entry.header_offset + LOCAL_HEADER_BYTES + sum(struct.unpack("<HH", file.read(4)))
