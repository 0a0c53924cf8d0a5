"""ImageNet (ILSVRC 2012), or any part of it with the same folders: train/<class>/ and val/<class>/."""

from __future__ import annotations

from pathlib import Path

from efficientconv.config import DataConfig
from efficientconv.data.class_folders import (
    class_names,
    list_images,
    listed,
    refuse_unknown_classes,
    training_classes,
)
from efficientconv.data.dataset import DATA_SETS, DataSet, root_of
from efficientconv.errors import UserError

SORT_SCRIPT = "https://raw.githubusercontent.com/soumith/imagenetloader.torch/master/valprep.sh"


@DATA_SETS.register("imagenet")
def imagenet(config: DataConfig) -> DataSet:
    """Test: the 50,000 images of val/, whose classes must be those of train/. Raises UserError for anything amiss."""
    root = root_of(config)
    for part in ("train", "val"):
        _check_there(root / part)
    classes, val_classes = training_classes(root / "train"), class_names(root / "val")
    refuse_unknown_classes(root / "val", val_classes, classes)
    if missing := sorted(set(classes) - set(val_classes)):
        raise UserError(f"'{root / 'val'}' lacks classes of train/ ({listed(missing)}): unpack all of val/")
    train, test = list_images(root / "train", classes), list_images(root / "val", classes)
    return DataSet("imagenet", classes, config.image_size, train, None, test)


def _check_there(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(
            f"ImageNet is not there: looked for '{folder}'; get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar "
            "from https://image-net.org/download (needs an account), unpack them to train/<class>/*.JPEG and "
            "val/<class>/*.JPEG in one folder and set data.root to it"
        )
    if folder.name == "val" and not any(entry.is_dir() for entry in folder.iterdir()):
        raise UserError(
            f"'{folder}' has no class folders (a flat val): sort its images into val/<class>/, "
            f"in it: wget -qO- {SORT_SCRIPT} | bash"
        )
