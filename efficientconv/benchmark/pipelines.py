"""The pipelines from image files to batches that scripts/benchmark_data.py compares, each with its workers started."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import simplejpeg
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, Resize, ToTensor

from efficientconv.config import DataConfig
from efficientconv.data import load_data, train_loader
from efficientconv.data.parallel import follow_parent
from efficientconv.data.prepared import PARTS, Recipe
from efficientconv.preparation.archive import encoded
from efficientconv.preparation.build import build
from efficientconv.preparation.plan import Plan
from efficientconv.preparation.source import find_source
from efficientconv.signals import held_back, ignore_signals

CROP, SIZE, BATCH = 221, 256, 64  # pixels, of the paper's recipe; images
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

Epoch = Callable[[], int]  # goes once through all images and returns their number

_task: Callable  # in a worker: what it does with each of _things
_things: list


def photographs(images: Path) -> list[Path]:
    """The files `images`/<class>/*."""
    return sorted(path for path in images.glob("*/*") if path.is_file())


def lay_out(files: list[Path], folder: Path, count: int) -> None:
    """Makes ImageNet's layout: `count` links in train to `files`, of all classes, repeated if needed, and as many in val."""
    spread = files[:: max(len(files) // count, 1)]
    for number, path in enumerate(itertools.islice(itertools.cycle(spread), count)):
        for part in PARTS:
            link = folder / part / path.parent.name / f"{number}_{path.name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.absolute())


def prepare(folders: Path, destination: Path, encoding: str, workers: int) -> None:
    recipe = Recipe(SIZE, "both", encoding, 95 if encoding == "jpeg" else None)
    build(Plan(find_source(folders, None, subset=True), destination, recipe, subset=True, images_per_file=5000), workers)


def usual(folders: Path, workers: int) -> Epoch:
    """torchvision's pipeline, as most people write it."""
    augment = [Resize((SIZE, SIZE)), RandomCrop(CROP), RandomHorizontalFlip(), ToTensor(), Normalize(MEAN, STD)]
    images = ImageFolder(folders / "train", Compose(augment))
    loader = DataLoader(
        images, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True,
        worker_init_fn=lambda _: ignore_signals(),
    )  # fmt: skip

    def epoch() -> int:
        with held_back():  # the first epoch starts the processes
            batches = iter(loader)
        return sum(len(labels) for _, labels in batches)

    return epoch


def ours(root: Path, workers: int) -> Epoch:
    """This project's pipeline for data=imagenet, up to the normalised batch. The device is the CPU."""
    config = DataConfig(name="imagenet", root=str(root), resize_size=SIZE, mean=MEAN, std=STD, workers=workers)
    loader = train_loader(
        load_data(config).train, config, image_size=CROP, global_batch_size=BATCH, accumulation_steps=1, seed=0,
        device=torch.device("cpu"), channels_last=True,
    )  # fmt: skip
    epochs = itertools.count()
    return lambda: sum(len(labels) for _, labels in loader.epoch(next(epochs)))


def decode_alone(contents: list[bytes], workers: int) -> Epoch:
    """Decodes JPEGs in memory to pixels, and does nothing else: the limit."""
    return _in_processes(simplejpeg.decode_jpeg, contents, workers)


def prepare_alone(folders: Path, workers: int) -> Epoch:
    """The work of scripts/prepare_imagenet.py on each image. It is done once, not in each epoch."""
    items = find_source(folders, None, subset=True).parts["train"]
    return _in_processes(partial(encoded, recipe=Recipe(SIZE, "both", "jpeg", 95)), items, workers)


def _in_processes(task: Callable, things: list, workers: int) -> Epoch:
    pool = ProcessPoolExecutor(workers, get_context("fork"), _hold, (task, things))  # a fork does not copy them
    parts = [range(first, len(things), workers) for first in range(workers)]

    def epoch() -> int:
        with held_back():  # the first epoch starts the processes
            counts = pool.map(_do, parts)
        return sum(counts)

    return epoch


def _hold(task: Callable, things: list) -> None:
    global _task, _things
    _task, _things = task, things
    follow_parent()


def _do(part: range) -> int:
    for index in part:
        _task(_things[index])
    return len(part)


def jpegs_of(root: Path) -> list[bytes]:
    """The contents of all training images of a set, for `decode_alone`."""
    config = DataConfig(name="imagenet", root=str(root), resize_size=SIZE, mean=MEAN, std=STD)
    split = load_data(config).train
    if hasattr(split, "paths"):
        return [Path(path).read_bytes() for path in split.paths]
    return [split.archives.read(r["file"], int(r["offset"]), int(r["size"])).tobytes() for r in split.records]
