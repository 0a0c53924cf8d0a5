"""Any tree with a folder for each class: root/train/<class>/ and root/test/<class>/ (or val/).

Images of up to 64 pixels a side are decoded once into memory; larger ones are read from their files in every epoch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from efficientconv.config import DataConfig
from efficientconv.data.class_folders import class_names, list_images, refuse_unknown_classes, training_classes
from efficientconv.data.damage import DamagedImage
from efficientconv.data.dataset import DATA_SETS, FILE_SETS, DataSet, SmallFileSplit, root_of
from efficientconv.data.decode import header_of
from efficientconv.data.image_files import PassedOver, sub_folders
from efficientconv.errors import UserError

LARGEST_IN_MEMORY = 64  # pixels a side: 100,000 such images take 1.2 GB


@FILE_SETS.register("folder")
def folder_files(config: DataConfig) -> DataSet:
    """Lists all image files. Raises UserError if a folder is missing or does not have this layout."""
    root = root_of(config)
    if not root.is_dir():
        raise UserError(f"no folder '{root}': set data.root to one that holds train/<class>/ and test/<class>/")
    classes, evaluated, passed_over = training_classes(root / "train"), evaluated_folder(root), PassedOver()
    refuse_unknown_classes(evaluated, class_names(evaluated), classes)
    train, test = (list_images(folder, classes, passed_over) for folder in (root / "train", evaluated))
    return DataSet("folder", classes, config.image_size, train, None, test, passed_over=passed_over)


@DATA_SETS.register(
    "folder",
    root=None,  # must be given: data.root=<folder>
    image_size=None,  # pixels a side; null: the images' own, all squares of one size
    resize_size=None,  # pixels: both sides are resized to it before the crop; needed for large images of many sizes
    crop_padding=4,  # pixels of zeros on each side before the random crop
    flip=True,
    mean=[0.5, 0.5, 0.5],  # not computed from your images, but close enough for most photographs
    std=[0.25, 0.25, 0.25],
    val_fraction=0.02,  # of the training images, watched during training
    max_damaged_fraction=0.001,  # of the training images; damaged ones are replaced, more than this end the run
    workers=None,  # that decode large images; null: one per core
)
def folder(config: DataConfig) -> DataSet:
    """Small images are decoded once into memory. Other images are read from their files in every epoch.

    Without data.image_size all images must be squares of one size. Raises UserError for images or folders that do not fit.
    """
    data = folder_files(config)
    sizes = _sample_sizes(data.train.paths, data.train.labels.tolist())
    size = config.image_size or _common_size(sizes)
    small = fits_in_memory(config, size)
    if not small and config.resize_size is None and set(sizes.values()) != {(size, size)}:
        raise UserError(
            f"the images in '{config.root}' are not all {size} x {size}: set data.resize_size={size} or more, "
            "to which both sides are resized before the crop"
        )
    if small:
        train, test = (SmallFileSplit(split.files, split.labels, size) for split in (data.train, data.test))
        data = replace(data, train=train, test=test)
    return replace(data, image_size=size)


def fits_in_memory(config: DataConfig, image_size: int) -> bool:
    """Whether images of this size are decoded once, not in every epoch."""
    return image_size <= LARGEST_IN_MEMORY and config.resize_size is None


def evaluated_folder(root: Path) -> Path:
    """test/, or val/ if there is no test/. Raises UserError if only val/ has class folders: the choice is then unclear."""
    test, val = root / "test", root / "val"
    if not test.is_dir() and not val.is_dir():
        raise UserError(f"neither test/ nor val/ in '{root}': put images to evaluate on in test/<class>/ beside train/")
    if test.is_dir() and not sub_folders(test) and val.is_dir() and sub_folders(val):
        raise UserError(
            f"no class folders in '{test}', which is used before val/, and '{val}' has some: to evaluate on val/, "
            "move test/ elsewhere"
        )
    return test if test.is_dir() else val


def _sample_sizes(paths: list[str], labels: list[int]) -> dict[str, tuple[int, int]]:
    """(width, height) of the first sound image of each class, by path. Decoding checks the other images later.

    Raises DamagedImage if all images are damaged.
    """
    sizes, sampled, damaged = {}, set(), None
    for path, label in zip(paths, labels):
        if label in sampled:
            continue
        try:
            sizes[path], _ = header_of(path)
            sampled.add(label)
        except DamagedImage as error:
            damaged = error
    if damaged is not None and not sizes:
        raise damaged
    return sizes


def _common_size(sizes: dict[str, tuple[int, int]]) -> int:
    distinct = {size: path for path, size in sizes.items()}
    squares = {width for width, height in distinct if width == height}
    if len(distinct) == len(squares) == 1:
        return squares.pop()
    examples = " and ".join(f"'{path}' is {size[0]} x {size[1]}" for size, path in list(distinct.items())[:2])
    raise UserError(f"images of several sizes or not square ({examples}): set data.image_size")
