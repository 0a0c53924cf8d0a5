"""ImageNet as it is downloaded: finds its images, their classes and the places of their bytes.

Each part is its original archive, or a folder with a subfolder for each class. val may also be a flat folder with a ground
truth. Archives are not unpacked: an image is a range of bytes in the archive, also in an archive inside an archive.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from efficientconv.data.class_folders import class_names, list_images, spelt_as, training_classes
from efficientconv.data.fingerprint import CONTENTS, SIZES, spaced
from efficientconv.data.image_files import (
    PassedOver,
    content_of,
    images_in,
    require_searchable,
    require_size,
    sub_folders,
)
from efficientconv.data.sets.imagenet import COMPLETE
from efficientconv.errors import UserError
from efficientconv.preparation.ground_truth import DEVKIT, GroundTruth
from efficientconv.preparation.tar import images_in_archive
from efficientconv.text import listed

ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
VAL_IMAGES_PER_CLASS = 50


class Item(NamedTuple):
    """One image."""

    name: str  # <class>/<file name>
    file: str
    offset: int  # bytes
    size: int | None  # None: the whole file

    @property
    def label(self) -> str:
        return self.name.partition("/")[0]

    def read_size(self) -> bytes:
        """The number of the image's bytes, as 8 bytes. Raises OSError."""
        return (os.path.getsize(self.file) if self.size is None else self.size).to_bytes(8, "little")

    def read(self) -> bytes:
        """The bytes of the image. Raises OSError, also for an image that is too large."""
        if self.size is None:
            return content_of(self.file)
        require_size(self.size)
        with open(self.file, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def contents_of(items: list[Item]) -> str:
    """SHA-256 of sizes and contents of some images: it differs for other images with the same names."""
    digest = sha256()
    for item in spaced(items, SIZES):
        digest.update(_read(item.read_size))
    for item in spaced(items, CONTENTS):
        digest.update(_read(item.read))
    return digest.hexdigest()


def _read(of_image: Callable[[], bytes]) -> bytes:
    try:
        return of_image()
    except OSError:  # named when its turn comes
        return b"unreadable"


@dataclass(frozen=True)
class Source:
    classes: list[str]
    parts: dict[str, list[Item]]  # by split, class after class, in the order in which data=imagenet lists folders
    passed_over: PassedOver


def find_source(root: Path, ground_truth: Path | None, subset: bool) -> Source:
    """All images of `root`. Only a flat val needs `ground_truth`; None: the development kit in `root`.

    Raises UserError if a part is missing, if the parts do not fit together, and, unless `subset`, if a part is incomplete.
    """
    require_searchable(root)
    passed_over = PassedOver()
    train = _train_items(root, passed_over)
    classes = sorted({item.label for item in train})
    val = _val_items(root, ground_truth or root / DEVKIT, classes, passed_over)
    val_classes = sorted({item.label for item in val})
    for wrong, message in ((set(val_classes) - set(classes), "train lacks classes of val"),
                           (set(classes) - set(val_classes), "val lacks classes of train")):  # fmt: skip
        if wrong:
            raise UserError(f"in '{root}' {message}: {listed(sorted(wrong))}; get the missing part again")
    source = Source(classes, {"train": train, "val": val}, passed_over)
    if not subset:
        _require_complete(source, root)
    return source


def _train_items(root: Path, passed_over: PassedOver) -> list[Item]:
    folder = root / "train"
    if folder.is_dir():
        return _folder_items(folder, training_classes(folder), passed_over)
    items = _archive_items(_archive(root, "train"), passed_over)
    if flat := [item.name for item in items if "/" not in item.name]:
        raise UserError(f"'{root / ARCHIVES['train']}' has images that are in no class, '{flat[0]}' first: get it again")
    return items


def _val_items(root: Path, ground_truth: Path, train_classes: list[str], passed_over: PassedOver) -> list[Item]:
    folder = root / "val"
    if folder.is_dir() and sub_folders(folder):
        return _folder_items(folder, sorted(spelt_as(train_classes, class_names(folder))), passed_over)
    if folder.is_dir():
        flat = [Item(os.path.basename(path), path, 0, None) for path in images_in(folder, passed_over)]
    else:
        flat = _archive_items(_archive(root, "val"), passed_over)
    labels = GroundTruth.read(ground_truth)
    return sorted(item._replace(name=f"{labels.of(item.name)}/{item.name}") for item in flat)


def _archive(root: Path, part: str) -> Path:
    path = root / ARCHIVES[part]
    if not path.is_file():
        raise UserError(
            f"neither '{path}' nor a folder '{root / part}': get ImageNet from https://image-net.org/download (needs an "
            "account), and put its archives, or their content, there"
        )
    return path


def _folder_items(folder: Path, classes: list[str], passed_over: PassedOver) -> list[Item]:
    split = list_images(folder, classes, passed_over)
    within = [path.removeprefix(f"{folder}/").partition("/")[2] for path in split.paths]
    labels = split.labels.tolist()
    return [Item(f"{classes[label]}/{name}", path, 0, None) for label, name, path in zip(labels, within, split.paths)]


def _archive_items(path: Path, passed_over: PassedOver) -> list[Item]:
    images = images_in_archive(path, passed_over)
    if not images:
        raise UserError(f"no images in '{path}'{f' ({passed_over})' if passed_over else ''}: get it again")
    return [Item(image.name, str(path), image.offset, image.size) for image in images]


def _require_complete(source: Source, root: Path) -> None:
    found = (len(source.classes), *map(len, source.parts.values()))
    for what, count, complete in zip(("classes", "images of train", "images of val"), found, COMPLETE):
        if count != complete:
            raise UserError(f"'{root}' has {count} {what}, ImageNet has {complete}: get the missing images, or add --subset")
    per_class = Counter(item.label for item in source.parts["val"])
    if wrong := sorted(name for name, count in per_class.items() if count != VAL_IMAGES_PER_CLASS):
        raise UserError(
            f"val has {per_class[wrong[0]]} images of '{wrong[0]}', not {VAL_IMAGES_PER_CLASS} as of each class: it was "
            "sorted by other labels; sort it again"
        )
