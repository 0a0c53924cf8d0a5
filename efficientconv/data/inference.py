"""Images for a trained network, whose training images may be gone: labelled ones to evaluate, others to predict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from efficientconv.config import DataConfig
from efficientconv.data.augment import Normalise
from efficientconv.data.class_folders import class_names, list_images, spelt_as
from efficientconv.data.dataset import DATA_SETS, FILE_SETS, ORIGINAL, FileSplit, Split, root_of
from efficientconv.data.fingerprint import digest_of
from efficientconv.data.image_files import PassedOver, images_in, sub_folders
from efficientconv.data.load import decode_for_evaluation
from efficientconv.data.loaders import EvalLoader, file_eval_loader
from efficientconv.data.pictures import Pictures
from efficientconv.data.prepared import is_prepared
from efficientconv.data.resize import Resize
from efficientconv.data.sampling import ALONE
from efficientconv.data.sets.folder import evaluated_folder, fits_in_memory
from efficientconv.data.sets.imagenet import prepared_test
from efficientconv.data.transforms import EvalTransform, SmallTransform
from efficientconv.errors import UserError
from efficientconv.text import listed

FEW = 16  # decoding so few images takes less time than the start of a process


@dataclass(frozen=True)
class TestImages:
    """A label is a place among the network's classes. `pixels` and `passed_over` are those of a DataSet."""

    split: Split
    digest: str  # Fingerprint.test
    pixels: str
    passed_over: PassedOver


def load_test_images(config: DataConfig, classes: list[str], image_size: int) -> TestImages:
    """The test images of the set `config`. It may lack some of `classes`, and a folder may lack its training images.

    Small files are decoded here, as in load_data. Raises UserError if the set is missing, or if images have no labels or
    other classes; and DamagedImage.
    """
    if config.name == "imagenet" and is_prepared(root_of(config)):
        found, prepared, pixels = prepared_test(root_of(config), config)
        relabelled = _relabelled(prepared, found, classes, config.name)
        return TestImages(relabelled, digest_of(prepared, config), pixels, PassedOver())
    split: Split
    if config.name in FILE_SETS.names():
        root, passed_over = root_of(config), PassedOver()
        if config.name == "imagenet" and (root / "val").is_dir():
            root = root / "val"  # ImageNet's test/ has no labels
        split = _labelled_files(root, classes, passed_over)
        digest = digest_of(split, config)
        if config.name != "imagenet" and fits_in_memory(config, image_size):
            split = decode_for_evaluation(split, image_size, config)
        return TestImages(split, digest, ORIGINAL, passed_over)
    data = DATA_SETS.get(config.name)(config)
    split = _relabelled(data.test, data.classes, classes, config.name)
    return TestImages(split, digest_of(data.test, config), data.pixels, data.passed_over)


def _labelled_files(root: Path, classes: list[str], passed_over: PassedOver) -> FileSplit:
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
    """`root` itself if its folders are classes (a class may be called test), otherwise test/ or val/ in it."""
    folders = spelt_as(classes, sub_folders(root))
    if folders and set(folders) <= set(classes):
        return root
    return evaluated_folder(root) if {"train", "test", "val"} & set(folders) else root


def _relabelled(split: Split, found: list[str], classes: list[str], name: str) -> Split:
    """The split with labels that are places in `classes` instead of places in `found`."""
    _refuse_unknown(f"data={name}", found, classes)
    places = torch.tensor([classes.index(one) for one in found])
    return replace(split, labels=places[split.labels])


def _refuse_unknown(where: str, names: list[str], classes: list[str]) -> None:
    known = set(classes)
    if unknown := [name for name in names if name not in known]:
        raise UserError(
            f"{where} has classes that the run was not trained on: {listed(unknown)}; it knows {listed(classes)}: leave the "
            "other folders out, or rename them to classes of the run"
        )


def find_images(place: Path) -> tuple[list[str], PassedOver]:
    """The path of a file, or of all images in a folder and its subfolders. Raises UserError if there are none."""
    passed_over = PassedOver()
    if place.is_file():
        return [str(place)], passed_over
    if not place.is_dir():
        raise UserError(f"images={place} is no file or folder of images")
    paths = images_in(place, passed_over)
    if not paths:
        raise UserError(f"images={place} has no images in it{f' ({passed_over})' if passed_over else ''}")
    return paths, passed_over


def prepared_alike(config: DataConfig, own: DataConfig, image_size: int) -> DataConfig:
    """`config` with the preparation of the network's `own` images.

    Images of any size are resized to `image_size` if large images of the network were cropped without resizing.
    """
    prepared = {key: getattr(own, key) for key in ("resize_size", "resize_rule", "mean", "std")}
    if own.resize_size is None and not fits_in_memory(own, image_size):
        prepared |= {"resize_size": image_size, "resize_rule": "both"}
    return config.model_copy(update=prepared | {"image_size": image_size})


def image_loader(
    images: FileSplit | Pictures, own: DataConfig, image_size: int, batch_size: int, device: torch.device,
    channels_last: bool,
) -> EvalLoader:  # fmt: skip
    """Batches of all `images`, prepared as the network's `own` images. Each batch names its damaged images."""
    config = prepared_alike(own, own, image_size)
    resize = Resize(config.resize_size, config.resize_rule)
    small = fits_in_memory(config, image_size)
    transform = SmallTransform(images, image_size) if small else EvalTransform(images, resize, image_size)
    normalise = Normalise(config.mean, config.std, device, channels_last)
    workers = None if isinstance(images, FileSplit) and len(images) > FEW else 0
    return file_eval_loader(transform, batch_size, ALONE, workers, normalise)
