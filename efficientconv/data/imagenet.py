"""ImageNet (ILSVRC 2012), or any part of it: folders train/<class>/ and val/<class>/, or a prepared set of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from efficientconv.config import DataConfig
from efficientconv.data.class_folders import (
    class_names,
    list_images,
    listed,
    refuse_unknown_classes,
    spelt_as,
    training_classes,
)
from efficientconv.data.dataset import DATA_SETS, FILE_SETS, DataSet, root_of
from efficientconv.data.image_files import PassedOver, sub_folders
from efficientconv.data.prepared import PARTS, PreparedManifest, PreparedSplit, is_prepared, read_split
from efficientconv.data.resize import Resize
from efficientconv.errors import UserError

COMPLETE = (1000, 1_281_167, 50_000)  # classes, images of train, images of val
PART = "part of imagenet"  # in the name of what was trained on: no result of a part is taken for one of the whole
SORT_SCRIPT = "https://raw.githubusercontent.com/soumith/imagenetloader.torch/master/valprep.sh"


@DATA_SETS.register("imagenet")
def imagenet(config: DataConfig) -> DataSet:
    """Test: the 50,000 images of val, of the classes of train. Raises UserError for anything amiss."""
    root = root_of(config)
    data = prepared_imagenet(root, config) if is_prepared(root) else imagenet_files(config)
    whole = (data.num_classes, len(data.train), len(data.test)) == COMPLETE
    return data if whole else replace(data, name=PART)


def prepared_imagenet(root: Path, config: DataConfig) -> DataSet:
    """What scripts/prepare_imagenet.py made, if it was made as `config` resizes."""
    manifest, pixels = _prepared(root, config, PARTS)
    train, test = (read_split(root, manifest, part) for part in PARTS)
    return DataSet("imagenet", manifest.classes, config.image_size, train, None, test, pixels=pixels)


def prepared_test(root: Path, config: DataConfig) -> tuple[list[str], PreparedSplit, str]:
    """(classes, test images, DataSet.pixels) of the same, whose training images may be gone."""
    manifest, pixels = _prepared(root, config, ("val",))
    return manifest.classes, read_split(root, manifest, "val"), pixels


def _prepared(root: Path, config: DataConfig, parts: tuple[str, ...]) -> tuple[PreparedManifest, str]:
    """(what is there, DataSet.pixels). Raises UserError where it was not made as `config` resizes."""
    manifest, digest = PreparedManifest.read(root, parts)
    made, asked = manifest.recipe.resize, Resize(config.resize_size, config.resize_rule)
    if made != asked:
        raise UserError(
            f"'{root}' was prepared with {made}, the configuration says {asked}: prepare another, or set "
            f"data.resize_size={made.size} data.resize_rule={made.rule}"
        )
    return manifest, f"prepared {digest}"


@FILE_SETS.register("imagenet")
def imagenet_files(config: DataConfig) -> DataSet:
    """All files of the folders, whose classes must be the same in both."""
    root = root_of(config)
    for part in ("train", "val"):
        _check_there(root / part)
    classes, val_classes = training_classes(root / "train"), class_names(root / "val")
    refuse_unknown_classes(root / "val", val_classes, classes)
    if missing := sorted(set(classes) - set(spelt_as(classes, val_classes))):
        raise UserError(f"'{root / 'val'}' lacks classes of train/ ({listed(missing)}): unpack all of val/")
    passed_over = PassedOver()
    train, test = (list_images(root / part, classes, passed_over) for part in ("train", "val"))
    return DataSet("imagenet", classes, config.image_size, train, None, test, passed_over=passed_over)


def _check_there(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(
            f"ImageNet is not there: looked for '{folder}'; get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar "
            "from https://image-net.org/download (needs an account), unpack them to train/<class>/*.JPEG and "
            "val/<class>/*.JPEG in one folder and set data.root to it"
        )
    if folder.name == "val" and not sub_folders(folder):
        raise UserError(
            f"'{folder}' has no class folders (a flat val): sort its images into val/<class>/, "
            f"in it: wget -qO- {SORT_SCRIPT} | bash"
        )
