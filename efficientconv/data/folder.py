"""Any tree with a folder for each class: root/train/<class>/ and root/test/<class>/ (or val/)."""

from __future__ import annotations

from pathlib import Path

from efficientconv.config import DataConfig
from efficientconv.data.class_folders import class_names, list_images, refuse_unknown_classes, training_classes
from efficientconv.data.dataset import DATA_SETS, DataSet, FileSplit, root_of
from efficientconv.data.decode import decode_all, size_of
from efficientconv.errors import UserError

LARGEST_IN_MEMORY = 64  # pixels a side: 100,000 such images take 1.2 GB


@DATA_SETS.register("folder")
def folder(config: DataConfig) -> DataSet:
    """Small images are decoded once into memory, others are read from their files in every epoch.

    Without data.image_size all images must be squares of one size. Raises UserError for anything amiss.
    """
    root = root_of(config)
    if not root.is_dir():
        raise UserError(f"no folder '{root}': set data.root to one that holds train/<class>/ and test/<class>/")
    classes, test_folder = training_classes(root / "train"), _test_folder(root)
    refuse_unknown_classes(test_folder, class_names(test_folder), classes)
    train, test = list_images(root / "train", classes), list_images(test_folder, classes)
    sizes = _sample_sizes(train)
    size = config.image_size or _common_size(sizes)
    if size <= LARGEST_IN_MEMORY and config.resize_size is None:
        given = config.image_size is not None
        train, test = decode_all(train, size, resize_others=given), decode_all(test, size, resize_others=given)
    elif config.resize_size is None and set(sizes.values()) != {(size, size)}:
        raise UserError(
            f"the images in '{root}' are not all {size} x {size}: set data.resize_size={size} or more, "
            "to which both sides are resized before the crop"
        )
    return DataSet("folder", classes, size, train, None, test)


def _test_folder(root: Path) -> Path:
    for name in ("test", "val"):
        if (root / name).is_dir():
            return root / name
    raise UserError(f"neither test/ nor val/ in '{root}': put images to evaluate on in test/<class>/ beside train/")


def _sample_sizes(split: FileSplit) -> dict[str, tuple[int, int]]:
    """(width, height) by path of the first image of each class; the others are checked when they are decoded."""
    first = dict(zip(reversed(split.labels.tolist()), reversed(split.paths)))
    return {path: size_of(path) for path in first.values()}


def _common_size(sizes: dict[str, tuple[int, int]]) -> int:
    distinct = {size: path for path, size in sizes.items()}
    squares = {width for width, height in distinct if width == height}
    if len(distinct) == len(squares) == 1:
        return squares.pop()
    examples = " and ".join(f"'{path}' is {size[0]} x {size[1]}" for size, path in list(distinct.items())[:2])
    raise UserError(f"images of several sizes or not square ({examples}): set data.image_size")
