"""Finds the images in a tar archive, and their bytes in it, without unpacking. Archives may lie inside archives."""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from efficientconv.data.image_files import PassedOver, why_no_folder, why_no_image
from efficientconv.errors import UserError
from efficientconv.text import listed

MOST_NESTED = 4  # archives in one another; ImageNet's training images lie in two
ARCHIVE = ".tar"
CHUNK_BYTES = 2**20
# The errors of tarfile for a damaged file. tarfile recurses for each header of a member, and allocates the size in a header.
DAMAGED = (tarfile.TarError, EOFError, ValueError, RecursionError, MemoryError, OverflowError)


class Stored(NamedTuple):
    """One image."""

    name: str  # <archive in the archive>/<file name>, or the file name alone
    offset: int  # bytes
    size: int  # bytes


def images_in_archive(path: Path, passed_over: PassedOver) -> list[Stored]:
    """All images of the archive, sorted by name. Other files are counted in `passed_over`.

    Raises UserError if the archive cannot be read, is damaged or compressed, or has two images with the same name.
    """
    try:
        with open(path, "rb") as file:
            images = sorted(_images(_Place(file, f"'{path}'"), passed_over))
    except OSError as error:
        raise UserError(f"cannot read '{path}' ({error.strerror}): make the file readable, or get it again") from None
    if twice := [name for name, count in Counter(image.name for image in images).items() if count > 1]:
        raise UserError(f"'{path}' has more than one image of the same name: {listed(twice)}; get it again")
    return images


class _Place(NamedTuple):
    """An archive, in a file or in another archive."""

    file: IO[bytes]
    title: str  # for messages
    folder: str = ""  # what its images' names begin with
    start: int = 0  # its first byte in the file on the disk
    depth: int = 1


def _images(place: _Place, passed_over: PassedOver) -> Iterator[Stored]:
    if place.depth > MOST_NESTED:
        raise UserError(f"{place.title}: more than {MOST_NESTED} archives lie in one another; get it again")
    contents: dict[str, tarfile.TarInfo | None] = {}  # by name; a hard link has that of the file before it
    for archive, member in _members(place):
        content = contents.get(member.linkname) if member.islnk() else member
        contents[member.name] = content
        if reason := _why_passed_over(member, content):
            passed_over.add(reason)
        elif content is not None and not member.isdir():
            yield from _image_or_images(place, archive, posixpath.basename(member.name), content, passed_over)


def _image_or_images(
    place: _Place, archive: tarfile.TarFile, name: str, content: tarfile.TarInfo, passed_over: PassedOver
) -> Iterator[Stored]:
    """The image, or the images in it if it is an archive."""
    if content.issparse():
        raise UserError(f"{place.title} stores '{name}' with holes (tar --sparse): make it again without")
    start = place.start + content.offset_data
    if why_no_image(name) is None:
        yield Stored(place.folder + name, start, content.size)
        return
    folder, title = f"{posixpath.splitext(name)[0]}/", f"{place.title}, in it '{name}'"
    inner = archive.extractfile(content)
    assert inner is not None, "_why_passed_over passes over what is no file"
    yield from _images(_Place(inner, title, folder, start, place.depth + 1), passed_over)


def _why_passed_over(member: tarfile.TarInfo, content: tarfile.TarInfo | None) -> str | None:
    """The reason to skip a member. None for an image and an archive, and for a folder, which is not counted."""
    if member.isdir():
        return None
    *folders, name = posixpath.normpath(member.name).split("/")
    reasons = [why_no_folder(folder) for folder in folders if folder != ".."] + [why_no_image(name)]
    if reason := next((reason for reason in reasons if reason not in (None, ARCHIVE)), None):
        return reason
    if content is None or member.issym():
        return "link"
    return None if content.isfile() else "pipe, socket or device"


def _members(place: _Place) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    end = place.file.seek(0, os.SEEK_END)
    place.file.seek(0)
    try:
        with tarfile.open(fileobj=place.file, mode="r:") as archive:
            for member in archive:
                size = member.size if member.isfile() and not member.issparse() else 0
                # The next member begins at `offset`, which need not be the content's end: a header may give another size.
                if not (member.offset_data <= archive.offset <= end and 0 <= size <= end - member.offset_data):
                    raise tarfile.ReadError("unexpected end of data")
                yield archive, member
            place.file.seek(archive.offset)
            if place.file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes a damaged header for the archive's end
                raise tarfile.ReadError("bad header")
            if _has_more(place.file):
                raise tarfile.ReadError("more lies behind its end, as where cat has joined two archives")
    except DAMAGED as error:
        if _is_compressed(place.file):
            raise UserError(f"{place.title} is compressed: decompress it, and run this again") from None
        raise UserError(f"{place.title} is damaged ({error}): get it again") from None


def _has_more(file: IO[bytes]) -> bool:
    """Whether anything follows except the zeros that fill the last record."""
    while part := file.read(CHUNK_BYTES):
        if part.strip(b"\0"):
            return True
    return False


def _is_compressed(file: IO[bytes]) -> bool:
    """Whether the file is a tar archive compressed by gzip, bzip2 or xz, in which an image is not a range of bytes."""
    for mode in ("r:gz", "r:bz2", "r:xz"):
        file.seek(0)
        try:
            tarfile.open(fileobj=file, mode=mode).close()
        except DAMAGED:
            continue
        return True
    return False
