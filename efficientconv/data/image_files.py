"""Decides which files are images, and counts the other files by the reason.

Training, evaluation, scripts/verify_data.py and scripts/prepare_imagenet.py all use this file, so they see the same images.
"""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from efficientconv.errors import UserError

# The formats that are decoded, by PIL's name, with their extensions. All of them store pixels: PostScript is left out
# because PIL would run Ghostscript. The common formats come first: PIL tries the formats in this order.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c"),
    "DIB": (".dib",),
    "QOI": (".qoi",),
    "ICO": (".ico",),
    "TGA": (".tga",),
}
EXTENSIONS = frozenset(extension for extensions in FORMATS.values() for extension in extensions)
# Folders made by NAS devices, archive tools and file systems, in lower case.
SYSTEM_FOLDERS = frozenset((
    "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "__macosx", "lost+found", "$recycle.bin",
    "system volume information",
))  # fmt: skip
REASONS_SHOWN = 8
LARGEST_BYTES = 2**30  # of a file: PIL's limit of 179 million pixels is 0.72 GB as uncompressed RGBA


def require_size(image_bytes: int) -> None:
    """Raises OSError for a size that no image has: a sparse file takes no disk space, but its content takes memory."""
    if image_bytes > LARGEST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def open_image(path: str | bytes) -> BinaryIO:
    """Raises OSError, also for a file that is too large."""
    require_size(os.path.getsize(path))
    return open(path, "rb")


def content_of(path: str | bytes) -> bytes:
    """The content of an image file. Raises OSError as open_image does."""
    with open_image(path) as file:
        return file.read()


class PassedOver(Counter):
    """The number of files that are not images, by the reason. It is empty, and so false, if there are none."""

    def add(self, reason: str, files: int = 1) -> None:
        if files:
            self[reason] += files

    def __str__(self) -> str:
        """One line: `9 files passed over: .jfif 6, hidden 2, unreadable 1`."""
        counts = sorted(self.items(), key=lambda item: (-item[1], item[0]))
        shown = [f"{reason} {files}" for reason, files in counts[:REASONS_SHOWN]]
        if rest := sum(files for _, files in counts[REASONS_SHOWN:]):
            shown.append(f"other reasons {rest}")
        return f"{self.total()} {'file' if self.total() == 1 else 'files'} passed over: {', '.join(shown)}"


def why_no_image(name: str) -> str | None:
    """Why a file with this name is not taken as an image; None if it is."""
    if name.startswith("."):  # macOS leaves a hidden "._name.jpg" beside each file that it copies
        return "hidden"
    extension = os.path.splitext(name)[1].lower()
    if extension in EXTENSIONS:
        return None
    if not extension:
        return "no extension"
    return extension if re.fullmatch(r"\.[a-z0-9_-]{1,12}", extension) else "odd extension"


def why_no_folder(name: str) -> str | None:
    """Why a folder with this name is skipped, with all its files; None if it is the user's own."""
    if name.startswith("."):  # .ipynb_checkpoints, .thumbnails: they hold copies
        return "hidden"
    return f"in {name}" if name.lower() in SYSTEM_FOLDERS else None


def require_searchable(folder: Path) -> None:
    """Raises UserError if this user may not look into the folder. A folder that does not exist is no error."""
    try:
        os.stat(folder / "train")
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise _unreadable(folder, error) from None


def sub_folders(folder: Path) -> list[str]:
    """The names of the user's own folders in `folder`, sorted. Raises UserError if `folder` cannot be read."""
    return [entry.name for entry in _entries_of(folder) if _is_folder(entry) and not why_no_folder(entry.name)]


def count_beside_folders(folder: Path, passed_over: PassedOver) -> None:
    """Counts the files in `folder` itself, whose images are only in its class folders."""
    _, images = _sorted_out(_entries_of(folder), passed_over)
    passed_over.add("in no class", len(images))


def images_in(folder: Path, passed_over: PassedOver) -> list[str]:
    """The paths of all images in `folder` and its subfolders, sorted by folder, then by name.

    Links to folders are followed. Each folder is read once, and a link to a folder above `folder` is not followed. Other
    files and unreadable subfolders are counted in `passed_over`. Raises UserError if `folder` itself cannot be read.
    """
    images, read, waiting = {}, set(), [(str(folder), os.path.realpath(folder))]  # paths, and those without links
    above = os.path.realpath(os.path.dirname(os.path.abspath(folder)))
    while waiting:
        place, real = waiting.pop()
        if real in read or os.path.commonpath((real, above)) == real:
            passed_over.add("folder linked twice")
            continue
        read.add(real)
        try:
            folders, images[place] = _sorted_out(_entries(place), passed_over)
        except OSError as error:
            if not images:
                raise _unreadable(place, error) from None
            passed_over.add("unreadable")
            continue
        for entry in folders:
            within = os.path.join(real, entry.name)
            waiting.append((entry.path, os.path.realpath(within) if entry.is_symlink() else within))
    return [path for place in sorted(images) for path in images[place]]


def _sorted_out(entries: list[os.DirEntry], passed_over: PassedOver) -> tuple[list[os.DirEntry], list[str]]:
    """(the folders to search, the paths of the images). Other entries are counted."""
    folders, images = [], []
    for entry in entries:
        if not _is_folder(entry):
            if reason := _why_no_file(entry):
                passed_over.add(reason)
            else:
                images.append(entry.path)
        elif reason := why_no_folder(entry.name):
            passed_over.add(reason, _files_in(entry))
        else:
            folders.append(entry)
    return folders, images


def _entries_of(folder: Path) -> list[os.DirEntry]:
    try:
        return _entries(folder)
    except OSError as error:
        raise _unreadable(folder, error) from None


def _entries(folder: str | Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _unreadable(folder: str | Path, error: OSError) -> UserError:
    return UserError(f"cannot read the folder '{folder}' ({error.strerror}): let this user read it, or name another")


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or through an unreadable folder
        return False


def _files_in(folder: os.DirEntry) -> int:
    """The number of files in a skipped folder; a link to a folder counts as one file."""
    return 1 if folder.is_symlink() else sum(len(files) for _, _, files in os.walk(folder.path))


def _why_no_file(entry: os.DirEntry) -> str | None:
    """As why_no_image; also None for a broken link with an image's name: the decoder then reports a damaged image."""
    reason = why_no_image(entry.name)
    if reason == "hidden" or _is_file(entry):
        return reason
    if os.path.exists(entry.path):
        return "pipe, socket or device"
    return reason and "broken link"


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
