"""Which files are images: the one place that says so, and that counts by its reason each file that is passed over.

Training, evaluation, scripts/verify_data.py and scripts/prepare_imagenet.py all ask here, so they see the same images.
"""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from efficientconv.errors import UserError

# What the decoder reads, by PIL's name of the format, and the extensions of each. Every format stores pixels: PostScript is
# left out because reading it runs Ghostscript. The common formats come first: PIL tries them in this order.
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
# Folders that NAS devices, archive tools and file systems leave among a user's own; in lower case.
SYSTEM_FOLDERS = frozenset((
    "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "__macosx", "lost+found", "$recycle.bin",
    "system volume information",
))  # fmt: skip
REASONS_SHOWN = 8
LARGEST_BYTES = 2**30  # of a file: the 179 million pixels that PIL takes at most are 0.72 GB as RGBA, uncompressed


def require_size(image_bytes: int) -> None:
    """Raises OSError for more than an image can have: a file with holes takes no disk, but whoever reads it memory."""
    if image_bytes > LARGEST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def open_image(path: str | bytes) -> BinaryIO:
    """Raises OSError, also for a file that is too large."""
    require_size(os.path.getsize(path))
    return open(path, "rb")


def content_of(path: str | bytes) -> bytes:
    """Of an image's file. Raises OSError as open_image."""
    with open_image(path) as file:
        return file.read()


class PassedOver(Counter):
    """Files that are not taken for images: how many, by the reason. Empty, and so false, where there are none."""

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
    """Why a file of this name is passed over; None: its name is an image's."""
    if name.startswith("."):  # macOS leaves a hidden "._name.jpg" beside each file that it copies
        return "hidden"
    extension = os.path.splitext(name)[1].lower()
    if extension in EXTENSIONS:
        return None
    if not extension:
        return "no extension"
    return extension if re.fullmatch(r"\.[a-z0-9_-]{1,12}", extension) else "odd extension"


def why_no_folder(name: str) -> str | None:
    """Why a folder of this name is passed over, with all that is in it; None: it is the user's own."""
    if name.startswith("."):  # .ipynb_checkpoints, .thumbnails: they hold copies
        return "hidden"
    return f"in {name}" if name.lower() in SYSTEM_FOLDERS else None


def require_searchable(folder: Path) -> None:
    """Raises UserError for a folder that is there, or may be, in which this user can't look anything up."""
    try:
        os.stat(folder / "train")
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise _unreadable(folder, error) from None


def sub_folders(folder: Path) -> list[str]:
    """The names of the folders in `folder` that are the user's own, sorted. Raises UserError when it can't be read."""
    return [entry.name for entry in _entries_of(folder) if _is_folder(entry) and not why_no_folder(entry.name)]


def count_beside_folders(folder: Path, passed_over: PassedOver) -> None:
    """Counts what lies in `folder` itself, where only the folders in it hold images."""
    _, images = _sorted_out(_entries_of(folder), passed_over)
    passed_over.add("in no class", len(images))


def images_in(folder: Path, passed_over: PassedOver) -> list[str]:
    """The paths of all images in `folder` and in the folders below it: by folder, then by name.

    Links to folders are followed, but each folder is read once, and none that `folder` lies in. What is no image is
    counted in `passed_over`, and so is a folder below that can't be read. Raises UserError when `folder` itself can't be.
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
    """(the folders to look into, the paths of the images); the others are counted."""
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
    except OSError:  # a link that leads to itself, or through a folder that can't be read
        return False


def _files_in(folder: os.DirEntry) -> int:
    """How many files lie in a folder that is passed over; a link to one counts as one."""
    return 1 if folder.is_symlink() else sum(len(files) for _, _, files in os.walk(folder.path))


def _why_no_file(entry: os.DirEntry) -> str | None:
    """As why_no_image, and None for a link that leads nowhere: whoever reads the image says that it is damaged."""
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
