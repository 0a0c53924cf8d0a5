"""Pictures that nobody has labelled, prepared as an evaluation prepares images."""

from __future__ import annotations

from pathlib import Path

import torch

from efficientconv.config import DataConfig
from efficientconv.data.dataset import FileSplit
from efficientconv.data.file_loader import FileEvalLoader
from efficientconv.data.folder import fits_in_memory
from efficientconv.data.frames import EvalFrames, SmallFrames
from efficientconv.data.image_files import PassedOver, images_in
from efficientconv.data.images import FolderImages
from efficientconv.data.normalise import Normalise
from efficientconv.data.resize import Resize
from efficientconv.data.sampling import ALONE
from efficientconv.errors import UserError

FEW = 16  # pictures are sooner decoded than a process is started for them


def find_pictures(place: Path) -> tuple[list[str], PassedOver]:
    """The path of a file, or of all images in a folder and the folders in it. Raises UserError where there is none."""
    passed_over = PassedOver()
    if place.is_file():
        return [str(place)], passed_over
    if not place.is_dir():
        raise UserError(f"images={place} is no file or folder of pictures")
    paths = images_in(place, passed_over)
    if not paths:
        raise UserError(f"images={place} has no pictures in it{f' ({passed_over})' if passed_over else ''}")
    return paths, passed_over


def prepared_alike(config: DataConfig, own: DataConfig, image_size: int) -> DataConfig:
    """`config` with the preparation of a network's `own` images; whole pictures where those were squares as they were."""
    prepared = {key: getattr(own, key) for key in ("resize_size", "resize_rule", "mean", "std")}
    if own.resize_size is None and not fits_in_memory(own, image_size):
        prepared |= {"resize_size": image_size, "resize_rule": "both"}
    return config.model_copy(update=prepared | {"image_size": image_size})


def picture_loader(
    paths: list[str], own: DataConfig, image_size: int, batch_size: int, device: torch.device, channels_last: bool
) -> FileEvalLoader:
    """Batches of all `paths`, for a network whose own images `own` describes. Damaged ones are named in each batch."""
    config = prepared_alike(own, own, image_size)
    resize = Resize(config.resize_size, config.resize_rule)
    images = FolderImages(FileSplit(paths, torch.zeros(len(paths), dtype=torch.int64)), resize)
    small = fits_in_memory(config, image_size)
    frames = SmallFrames(images, image_size) if small else EvalFrames(images, resize, image_size)
    normalise = Normalise(config.mean, config.std, device, channels_last)
    return FileEvalLoader(frames, batch_size, ALONE, 0 if len(paths) <= FEW else None, normalise)
