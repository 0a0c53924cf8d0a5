"""ImageNet (ILSVRC 2012), or any part of it: folders train/<class>/ and val/<class>/, or a prepared set of them.

1,281,167 training images; the 50,000 of val/ are the test set; 1,000 classes. From https://image-net.org (needs an account).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from efficientconv.config import DataConfig
from efficientconv.data.class_folders import (
    class_names,
    list_images,
    refuse_unknown_classes,
    spelt_as,
    training_classes,
)
from efficientconv.data.dataset import DATA_SETS, FILE_SETS, DataSet, root_of
from efficientconv.data.image_files import PassedOver, sub_folders
from efficientconv.data.prepared import PARTS, PreparedManifest, PreparedSplit, is_prepared, read_split
from efficientconv.data.resize import Resize
from efficientconv.errors import UserError
from efficientconv.text import listed

COMPLETE = (1000, 1_281_167, 50_000)  # classes, images of train, images of val
PART = "part of imagenet"  # the name of such a data set in records, so that no result of a part passes for one of the whole
SORT_SCRIPT = "https://raw.githubusercontent.com/soumith/imagenetloader.torch/master/valprep.sh"


@DATA_SETS.register(
    "imagenet",
    root="data/imagenet",  # what scripts/prepare_imagenet.py made, or train/<class>/*.JPEG and val/<class>/*.JPEG
    image_size=None,  # pixels a side: the network's own, 221 for A to M, 224 for N and O
    resize_size=256,  # pixels, as in the paper's recipe; then a random crop, at the centre to evaluate
    resize_rule="both",  # sides that become resize_size; shorter: proportions are kept
    crop_padding=0,  # pixels
    flip=True,
    min_crop_area=None,  # 0.08: random resized crops of at least that share of the image as it is stored
    randaugment_ops=0,  # RandAugment's operations on an image
    randaugment_magnitude=9,  # 0 to 30
    mixup_alpha=0.0,  # of the beta distribution for mixing two images; 0: never
    cutmix_alpha=0.0,  # the same for a box of one image in another; with both, each is used half the time
    mean=[0.485, 0.456, 0.406],  # of the training set, RGB, images in 0..1
    std=[0.229, 0.224, 0.225],
    val_fraction=0.01,  # about 12,800 training images, watched during training; val/ is kept for the end
    max_damaged_fraction=0.001,  # of the training images; damaged ones are replaced, more than this end the run
    workers=None,  # that decode images; null: one per core, divided among the GPUs
)
def imagenet(config: DataConfig) -> DataSet:
    """The test images are the 50,000 of val/. Raises UserError if a part is missing or does not fit."""
    root = root_of(config)
    data = prepared_imagenet(root, config) if is_prepared(root) else imagenet_files(config)
    whole = (data.num_classes, len(data.train), len(data.test)) == COMPLETE
    return data if whole else replace(data, name=PART)


def prepared_imagenet(root: Path, config: DataConfig) -> DataSet:
    """The set that scripts/prepare_imagenet.py made. Raises UserError if `config` resizes differently."""
    manifest, pixels = _prepared(root, config, PARTS)
    train, test = (read_split(root, manifest, part) for part in PARTS)
    return DataSet("imagenet", manifest.classes, config.image_size, train, None, test, pixels=pixels)


def prepared_test(root: Path, config: DataConfig) -> tuple[list[str], PreparedSplit, str]:
    """(classes, test images, DataSet.pixels) of a prepared set, which needs no training images."""
    manifest, pixels = _prepared(root, config, ("val",))
    return manifest.classes, read_split(root, manifest, "val"), pixels


def _prepared(root: Path, config: DataConfig, parts: tuple[str, ...]) -> tuple[PreparedManifest, str]:
    """(the manifest, DataSet.pixels). Raises UserError if `config` resizes differently."""
    manifest, digest = PreparedManifest.read(root, parts)
    made, asked = manifest.recipe.resize, Resize(config.resize_size, config.resize_rule)
    if made != asked:
        raise UserError(
            f"'{root}' was prepared with {made}, the configuration says {asked}: prepare another set, or set "
            f"data.resize_size={made.size} data.resize_rule={made.rule}"
        )
    return manifest, f"prepared {digest}"


@FILE_SETS.register("imagenet")
def imagenet_files(config: DataConfig) -> DataSet:
    """Lists all image files of train/ and val/, which must have the same classes."""
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
            f"'{folder}' has no class folders (a flat val): sort its images into val/<class>/; "
            f"in this folder: wget -qO- {SORT_SCRIPT} | bash"
        )
