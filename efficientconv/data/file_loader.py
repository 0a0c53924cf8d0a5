"""Batches of a set that is read from files: workers decode, resize, crop and flip; the device normalises."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import functional as F

from efficientconv.data.dataset import FileSplit
from efficientconv.data.decode import available_cores, read_rgb
from efficientconv.data.normalise import Normalise
from efficientconv.data.sampling import Shard, TrainPlan, eval_indices
from efficientconv.errors import UserError

Batch = tuple[Tensor, Tensor]
Key = tuple[int, list[float] | None]  # image index, its augmentation numbers; without them the crop is central


class ImageFiles(Dataset):
    """Key -> (uint8 S x S x 3, label): a pure function, so it does not matter which worker computes it.

    A UserError is the sample itself: raised in a worker it would arrive with that worker's traceback as its message,
    and with references that keep the other workers alive.
    """

    def __init__(self, split: FileSplit, image_size: int, resize_size: int | None, crop_padding: int, flip: bool):
        # An array of bytes: a list's reference counts would be written to, and so copied, in every worker.
        self.paths = np.array([os.fsencode(path) for path in split.paths])
        self.labels = split.labels
        self.image_size, self.resize_size, self.crop_padding, self.flip = image_size, resize_size, crop_padding, flip

    def __getitem__(self, key: Key) -> Batch | UserError:
        index, numbers = key
        path = os.fsdecode(self.paths[index])
        try:
            image = self._resized(read_rgb(path), path)
        except UserError as error:
            return error
        image = F.center_crop(image, self.image_size) if numbers is None else self._augmented(image, *numbers)
        return torch.from_numpy(np.array(image)), self.labels[index]

    def _resized(self, image: Image.Image, path: str) -> Image.Image:
        if self.resize_size is not None:
            image = F.resize(image, [self.resize_size, self.resize_size])
        if min(image.size) < self.image_size:
            width, height = image.size
            raise UserError(
                f"'{path}' is {width} x {height}, too small for crops of {self.image_size}: "
                f"set data.resize_size={self.image_size} or more"
            )
        return image

    def _augmented(self, image: Image.Image, row: float, column: float, mirror: float) -> Image.Image:
        image = F.pad(image, self.crop_padding) if self.crop_padding else image
        top = int(row * (image.height - self.image_size + 1))
        left = int(column * (image.width - self.image_size + 1))
        image = F.crop(image, top, left, self.image_size, self.image_size)
        return F.hflip(image) if self.flip and mirror < 0.5 else image


class TrainKeys:
    """The batch sampler of FileTrainLoader; `epoch` and `start` are set before each pass."""

    def __init__(self, plan: TrainPlan):
        self.plan, self.epoch, self.start = plan, 0, 0

    def __iter__(self) -> Iterator[list[Key]]:
        for indices, numbers in self.plan.batches(self.epoch, self.start):
            yield list(zip(indices.tolist(), numbers.tolist()))


class FileTrainLoader:
    """Random crops and flips. See loaders.train_loader."""

    def __init__(self, files: ImageFiles, plan: TrainPlan, workers: int | None, normalise: Normalise):
        self.batch_size, self.batches_per_epoch = plan.batch_size, plan.batches_per_epoch
        self._keys, self._normalise = TrainKeys(plan), normalise
        self._loader = _torch_loader(files, self._keys, workers, normalise.device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        self._keys.epoch, self._keys.start = epoch, start
        yield from _on_device(self._loader, self._normalise)


class FileEvalLoader:
    """Every image of the shard, cropped at its centre, in a fixed order. See loaders.eval_loader."""

    def __init__(self, files: ImageFiles, batch_size: int, shard: Shard, workers: int | None, normalise: Normalise):
        keys = [(index, None) for index in eval_indices(len(files.paths), shard).tolist()]
        batches = [keys[first : first + batch_size] for first in range(0, len(keys), batch_size)]
        self.batch_size, self.num_images, self._normalise = batch_size, len(keys), normalise
        self._loader = _torch_loader(files, batches, workers, normalise.device)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        yield from _on_device(self._loader, self._normalise)


def _torch_loader(files: ImageFiles, batches, workers: int | None, device: torch.device) -> DataLoader:
    workers = available_cores() if workers is None else workers
    return DataLoader(
        files,
        batch_sampler=batches,
        collate_fn=_collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # else each pass would draw from the global one, and a resumed run draw otherwise
    )


def _collate(samples: list[Batch | UserError]) -> Batch | UserError:
    errors = [sample for sample in samples if isinstance(sample, UserError)]
    return errors[0] if errors else default_collate(samples)


def _on_device(loader: DataLoader, normalise: Normalise) -> Iterator[Batch]:
    for batch in loader:
        if isinstance(batch, UserError):
            raise UserError(str(batch))  # a new one: it must not hold the frame that holds the loader that holds it
        images, labels = batch
        yield normalise(images.permute(0, 3, 1, 2)), labels.to(normalise.device, non_blocking=True)
