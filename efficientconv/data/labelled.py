"""Images to evaluate a trained network on: labelled by its classes, wherever they lie; its training images may be gone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from efficientconv.config import DataConfig
from efficientconv.data.class_folders import class_names, list_images, listed, spelt_as
from efficientconv.data.dataset import DATA_SETS, FILE_SETS, ORIGINAL, FileSplit, Split, root_of
from efficientconv.data.decode import decode_for_evaluation
from efficientconv.data.fingerprint import digest_of
from efficientconv.data.folder import evaluated_folder, fits_in_memory
from efficientconv.data.image_files import PassedOver, images_in, sub_folders
from efficientconv.data.imagenet import prepared_test
from efficientconv.data.prepared import is_prepared
from efficientconv.errors import UserError


@dataclass(frozen=True)
class TestImages:
    """Labelled by their place among the network's classes. `pixels`, `passed_over`: as of a DataSet."""

    split: Split
    digest: str  # Images.test
    pixels: str
    passed_over: PassedOver


def load_test_images(config: DataConfig, classes: list[str], image_size: int) -> TestImages:
    """Those of the set `config`, which may lack some of `classes` and, as a folder, its training images.

    Small files are decoded here, as load_data does. Raises UserError for images without labels or of other classes, for a
    set that is not there, and DamagedImage.
    """
    if config.name == "imagenet" and is_prepared(root_of(config)):
        found, split, pixels = prepared_test(root_of(config), config)
        return TestImages(_relabelled(split, found, classes, config.name), digest_of(split, config), pixels, PassedOver())
    if config.name in FILE_SETS.names():
        root, passed_over = root_of(config), PassedOver()
        if config.name == "imagenet" and (root / "val").is_dir():
            root = root / "val"  # ImageNet's test/ has no labels
        split = class_folders(root, classes, passed_over)
        digest = digest_of(split, config)
        if config.name != "imagenet" and fits_in_memory(config, image_size):
            split = decode_for_evaluation(split, image_size, resize_others=config.image_size is not None)
        return TestImages(split, digest, ORIGINAL, passed_over)
    data = DATA_SETS.get(config.name)(config)
    split = _relabelled(data.test, data.classes, classes, config.name)
    return TestImages(split, digest_of(data.test, config), data.pixels, data.passed_over)


def class_folders(root: Path, classes: list[str], passed_over: PassedOver) -> FileSplit:
    """The images in root/test/<class>/, root/val/<class>/ or root/<class>/. Raises UserError as load_test_images."""
    if not root.is_dir():
        raise UserError(f"no folder '{root}': name one that holds a folder of images for each class")
    folder = _folder_of_classes(root, classes)
    if not sub_folders(folder) and images_in(folder, PassedOver()):
        raise UserError(
            f"the images in '{folder}' have no labels, as they are not sorted into a folder for each class: "
            f"python scripts/predict.py run=<run> images={folder} says what the network takes each for"
        )
    _refuse_unknown(f"'{folder}'", spelt_as(classes, class_names(folder)), classes)
    return list_images(folder, classes, passed_over)


def _folder_of_classes(root: Path, classes: list[str]) -> Path:
    """`root` itself, where its folders are classes, whatever those are called; else test/ or val/ in it."""
    folders = spelt_as(classes, sub_folders(root))
    if folders and set(folders) <= set(classes):
        return root
    return evaluated_folder(root) if {"train", "test", "val"} & set(folders) else root


def _relabelled(split: Split, found: list[str], classes: list[str], name: str) -> Split:
    """Labels that are places in `found` become places in `classes`."""
    _refuse_unknown(f"data={name}", found, classes)
    places = torch.tensor([classes.index(one) for one in found])
    return replace(split, labels=places[split.labels])


def _refuse_unknown(where: str, names: list[str], classes: list[str]) -> None:
    known = set(classes)
    if unknown := [name for name in names if name not in known]:
        raise UserError(
            f"{where} has classes that the run was not trained on: {listed(unknown)}; it knows {listed(classes)}: leave the "
            "others out, or name their folders like the classes that they are"
        )
