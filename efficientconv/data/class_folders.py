"""Trees with a folder for each class: which classes there are, and which images."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torchvision.datasets.folder import is_image_file, make_dataset

from efficientconv.data.dataset import FileSplit
from efficientconv.errors import UserError


def class_names(folder: Path) -> list[str]:
    """The class folders of a split, sorted. Raises UserError when there are none."""
    if not folder.is_dir():
        raise UserError(f"no folder '{folder}': data.root must hold train/<class>/ and an evaluation set like it")
    names = sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))
    if not names:
        flat = " but images" if any(is_image_file(e.name) for e in os.scandir(folder)) else ""
        raise UserError(f"no class folders in '{folder}'{flat}: put each image in a folder named like its class")
    return names


def training_classes(folder: Path) -> list[str]:
    """As class_names, but one class alone raises UserError; to evaluate on, one is enough."""
    names = class_names(folder)
    if len(names) == 1:
        raise UserError(f"only one class, '{names[0]}', in '{folder}': a classifier needs two or more class folders")
    return names


def refuse_unknown_classes(folder: Path, names: list[str], train_names: list[str]) -> None:
    """Raises UserError when `names`, the classes in `folder`, has any that training lacks."""
    if extra := sorted(set(names) - set(train_names)):
        raise UserError(f"'{folder}' has classes that train/ lacks: {listed(extra)}; remove them or add them to train/")


def list_images(folder: Path, names: list[str]) -> FileSplit:
    """All images of the classes `names`, labelled by their place in it, in a fixed order; folders may be nested.

    A class of `names` without a folder is passed over; UserError when a class folder has no image.
    """
    labels = {name: label for label, name in enumerate(names)}
    samples = make_dataset(str(folder), labels, is_valid_file=_is_visible_image, allow_empty=True)
    found = {label for _, label in samples}
    if empty := [name for name in names if labels[name] not in found and (folder / name).is_dir()]:
        raise UserError(f"no images in the class folders {listed(empty)} of '{folder}': fill them or remove them")
    return FileSplit([path for path, _ in samples], torch.tensor([label for _, label in samples], dtype=torch.int64))


def listed(names: list[str], most: int = 5) -> str:
    """Names for a message of one line."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + rest


def _is_visible_image(path: str) -> bool:
    # macOS leaves a hidden "._name.jpg" beside each file that it copies; it is no image.
    return is_image_file(path) and not os.path.basename(path).startswith(".")
