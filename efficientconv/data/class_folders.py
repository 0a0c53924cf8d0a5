"""Reads a folder of images that has a subfolder for each class: finds the classes and the images."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import torch

from efficientconv.data.dataset import FileSplit
from efficientconv.data.image_files import PassedOver, count_beside_folders, images_in, sub_folders
from efficientconv.errors import UserError
from efficientconv.text import listed


def class_names(folder: Path) -> list[str]:
    """The names of the class folders of a split, sorted. Raises UserError if there are none, or two of one name."""
    if not folder.is_dir():
        raise UserError(f"no folder '{folder}': data.root must hold train/<class>/ and test/<class>/ or val/<class>/")
    names = sub_folders(folder)
    if not names:
        flat = " but images" if images_in(folder, PassedOver()) else ""
        raise UserError(f"no class folders in '{folder}'{flat}: put each image in a folder named like its class")
    spellings = Counter(map(_composed, names))
    if twice := [ascii(name) for name in names if spellings[_composed(name)] > 1]:
        raise UserError(
            f"'{folder}' has {len(twice)} folders for one class, in several Unicode spellings ({', '.join(twice)}): put "
            "their images into one"
        )
    return names


def training_classes(folder: Path) -> list[str]:
    """class_names, with UserError also for only one class: training needs two."""
    names = class_names(folder)
    if len(names) == 1:
        raise UserError(f"only one class, '{names[0]}', in '{folder}': a classifier needs two or more class folders")
    return names


def spelt_as(known: list[str], names: list[str]) -> list[str]:
    """`names`, each in the Unicode form that it has in `known`: composed and decomposed accents are the same name."""
    spelling = {_composed(name): name for name in known}
    return [spelling.get(_composed(name), name) for name in names]


def refuse_unknown_classes(folder: Path, names: list[str], train_names: list[str]) -> None:
    """Raises UserError if `names`, the classes in `folder`, contains a class that is not in `train_names`."""
    if extra := sorted(set(spelt_as(train_names, names)) - set(train_names)):
        raise UserError(f"'{folder}' has classes that train/ lacks: {listed(extra)}; remove them or add them to train/")


def list_images(folder: Path, names: list[str], passed_over: PassedOver) -> FileSplit:
    """All images of the classes `names`, in a fixed order. A label is the class's place in `names`. Folders may be nested.

    Other files are counted in `passed_over`. A class without a folder is left out. Raises UserError if a class folder has no
    image or cannot be read.
    """
    here = sub_folders(folder)
    folders = dict(zip(spelt_as(names, here), here))
    others, paths, labels = PassedOver(), [], []
    images = {name: images_in(folder / folders[name], others) for name in names if name in folders}
    if empty := [name for name in images if not images[name]]:
        reasons = f" ({others})" if others else ""
        raise UserError(f"no images in the class folders {listed(empty)} of '{folder}'{reasons}: fill them or remove them")
    for label, name in enumerate(names):
        paths += images.get(name, [])
        labels += [label] * len(images.get(name, []))
    count_beside_folders(folder, others)
    passed_over.update(others)
    return FileSplit(paths, torch.tensor(labels, dtype=torch.int64))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
